"""Run notebooks with papermill, strictly: an unknown parameter stops, and a failed run leaves no page behind."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import papermill
from papermill.exceptions import PapermillExecutionError

from companion import errors
from companion.errors import NotebookFailed, UnknownName, first_line
from companion.executors import cores
from companion.paths import NOTEBOOKS

_KERNELS_SEE = {"COMPANION_PROGRESS": "text", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


def path(name: str) -> Path:
    """The notebook of an experiment, or :class:`UnknownName`."""
    known = sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb"))
    if name not in known:
        raise UnknownName("experiment", name, known)
    return NOTEBOOKS / f"{name}.ipynb"


def parameters(name: str) -> dict[str, dict[str, str]]:
    """The notebook's parameters as papermill reads them: name → default, inferred type, help (its comment)."""
    with contextlib.redirect_stdout(io.StringIO()):
        return dict(papermill.inspect_notebook(path(name)))


def check_parameters(name: str, given: Mapping[str, Any]) -> None:
    """Stop with :class:`UnknownName` if the notebook has no parameter of one of these names."""
    known = parameters(name)
    for parameter in given:
        if parameter not in known:
            raise UnknownName(f"parameter of notebook {name!r}:", parameter, sorted(known))


def execute(name: str, given: Mapping[str, Any], out: Path, **environment: str) -> Path:
    """Execute the notebook with these parameters and write the page to ``out``; its progress goes to stderr.

    ``environment`` holds further variables for its kernel.
    Raises :class:`UnknownName` for a parameter the notebook does not have, :class:`NotebookFailed` with the last line
    of the notebook's error, or because its kernel dies or the page cannot be written; ``out`` is then left as it was.
    """
    check_parameters(name, given)
    with _environment(**_KERNELS_SEE, **environment):
        return _execute(name, given, out)


def execute_all(wanted: Mapping[str, Mapping[str, Any]], folder: Path, **environment: str) -> list[Path]:
    """Execute notebooks, name → parameters, one per core at a time, to ``folder/<name>.ipynb``.

    ``environment`` holds further variables for their kernels. Raises as :func:`execute` does, for the first failure in
    the order of ``wanted``, when the notebooks already begun have ended; no other is begun then.
    """
    for name, given in wanted.items():
        check_parameters(name, given)
    # around all of them, as a variable put back by one would be missing for the kernel that starts next
    with _environment(**_KERNELS_SEE, **environment), ThreadPoolExecutor(cores()) as pool:
        started = [pool.submit(_execute, name, given, folder / f"{name}.ipynb") for name, given in wanted.items()]
        try:
            return [page.result() for page in started]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _execute(name: str, given: Mapping[str, Any], out: Path) -> Path:
    # several machines may write the same page in one folder
    unfinished = out.with_name(f".{platform.node()}-{os.getpid()}-{out.name}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        papermill.execute_notebook(
            path(name),
            unfinished,
            dict(given),
            kernel_name="python3",
            progress_bar=False,
            stderr_file=sys.stderr,
            # A kernel's own log (how it is connected, how it was stopped) says nothing about the run.
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        )
        unfinished.replace(out)
    except PapermillExecutionError as error:
        raise _failure(name, error) from error
    except RuntimeError as error:  # of a kernel that died, or never answered
        raise NotebookFailed(
            f"notebook {name!r}: its kernel is lost ({first_line(error)})",
            "free some memory or use fewer workers, and run the same command again",
        ) from error
    except OSError as error:
        raise NotebookFailed(
            f"notebook {name!r} cannot be run and kept as {out} ({error.strerror or error})",
            "free some space, or move away what is in its place",
        ) from error
    except BaseException:
        # the cell's task is abandoned, and at exit would print a traceback after our sentence
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return out


def _failure(name: str, error: PapermillExecutionError) -> NotebookFailed:
    """The notebook's own sentence if it stopped with one of ours, else the error's name and text."""
    if hasattr(errors, error.ename):
        problem, _, remedy = error.evalue.rstrip(".").rpartition("; ")
        return NotebookFailed(f"notebook {name!r}: {problem}", remedy)
    return NotebookFailed(f"notebook {name!r} stopped with {error.ename}: {error.evalue}", "correct that and run again")


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Environment variables for kernels, which inherit them; as before afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
