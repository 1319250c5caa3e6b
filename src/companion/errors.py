"""One exception class per cause. ``str(error)`` is one sentence that names the input, then says what to do about it."""

from __future__ import annotations


class CompanionError(Exception):
    """Base of every error a user can cause or mend; the command line prints it without a traceback."""

    def __init__(self, problem: str, remedy: str) -> None:
        # Not passed on to Exception: its args stay the constructor's, so that errors can come back from a worker.
        self.sentence = one_line(f"{problem}; {remedy}.")

    def __str__(self) -> str:
        return self.sentence

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows (IPython asks for it): the sentence, not the stack of calls that found the mistake."""
        return [f"{type(self).__name__}: {self}"]


_LONGEST = 1500  # characters of a sentence; what is beyond lies in the middle, in a value somebody gave


def one_line(text: str) -> str:
    """The text with control characters written out, cut in the middle where it is very long."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def first_line(error: BaseException) -> str:
    """The first line of what another library's error says, cut where it is long; its class if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


class UnknownName(CompanionError):
    """A model, task, experiment, profile, parameter or protocol that does not exist."""

    def __init__(self, what: str, name: object, known: list[str] | tuple[str, ...]) -> None:
        super().__init__(f"unknown {what} {name!r}", f"choose one of: {', '.join(known)}")


class InvalidValue(CompanionError):
    """A setting of the right name and the wrong type or range."""


class ModelUnavailable(CompanionError):
    """No weights at hand: the folder lacks them, they are damaged, or no hub could be reached."""


class UnknownArchitecture(CompanionError):
    """An encoder that cannot be taken apart: without one stack of layers, with weights in them that are neither of
    linear maps nor of LayerNorm, or with a tokenizer that does not pad; or a model whose first token does not see the
    others."""


class DataUnavailable(CompanionError):
    """A task's data set is missing, or lacks a split or a column."""


class StoreUnavailable(CompanionError):
    """The store of results cannot be read or written."""


class TableUnavailable(CompanionError):
    """A published table is missing, damaged or lacks a column."""


class NotebookFailed(CompanionError):
    """A notebook stopped with an error; its page is not published."""


class BookBuildFailed(CompanionError):
    """The book did not build without warnings."""


class TrialFailed(CompanionError):
    """A trial ended with an error that is not the user's: a bug, or a machine without enough memory."""


class WorkersLost(CompanionError):
    """Worker processes, or the cluster they should run on, are not there or keep dying."""


class Interrupted(CompanionError):
    """The user stopped a sweep; what was finished is stored."""
