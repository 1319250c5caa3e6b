"""The command line: ``companion trial | run | status | results | book | claims | doctor | tune | pretrain-pocket``.

Heavy libraries are imported inside the commands that need them, so that help and mistakes are quick.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
import warnings

from companion import __version__
from companion.commands import book, results, run, trial, upkeep
from companion.errors import CompanionError, Interrupted, one_line


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 on success, 1 after an error (one sentence on stderr), 130 when interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the terminal has no letters for
    try:
        code = _run(argv)
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has what it wanted
        return _to_nowhere(0)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(
            "companion: the output cannot be written (no space left); free some, or write elsewhere.", file=sys.stderr
        )
        return _to_nowhere(1)
    return code


def _to_nowhere(code: int) -> int:
    """The code, after which Python flushes stdout once more: to where nothing can fail."""
    if sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run(argv: list[str] | None) -> int:
    parser = _parser()
    for word in sys.argv[1:] if argv is None else argv:
        if word.startswith("-") and word.endswith("=--"):  # argparse would make an empty list of it
            parser.error(f"argument {word[:-3]}: '--' is no value")
    arguments = parser.parse_args(argv)
    warnings.showwarning = lambda message, *_: print(f"warning: {one_line(str(message))}", file=sys.stderr)
    try:
        return arguments.command(arguments) or 0
    except Interrupted as error:
        print(f"companion: {error}", file=sys.stderr)
        return 130
    except CompanionError as error:
        print(f"companion: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        stored = "; what was finished is stored, and the same command goes on from there"
        print(f"companion: interrupted{stored if arguments.resumable else ''}.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="companion", description="Rerun and read: Investigating Transferability in Pretrained Language Models."
    )
    parser.add_argument("--version", action="version", version=f"companion {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    trial.add_trial(commands)
    run.add_run(commands)
    run.add_status(commands)
    results.add_results(commands)
    book.add_book(commands)
    book.add_claims(commands)
    upkeep.add_doctor(commands)
    upkeep.add_tune(commands)
    upkeep.add_pretrain(commands)
    return parser
