"""The command line: `opuproj project | pack | info | bench | demo | completion`, with one file for each command."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .. import __version__
from . import bench, completion, demo, info, pack, project
from ._errors import BROKEN_PIPE, INTERRUPTED, REFUSED, TERMINATED, Terminated, Unfinished

_EPILOG = """\
examples:
  opuproj project x.npy y.npy --outputs 100000
  opuproj pack errors.npy errors.ternary --relative 0.1
  opuproj info x.npy

exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted, 143 terminated, 141 broken pipe"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        The exit code: 0 success; 1 error, with one line on standard error; 2 invalid command line; 130 interrupted;
        143 terminated; 141 the reader of standard output closed the pipe.
    """
    try:
        with _termination():
            made = parser()
            if "_ARGCOMPLETE" in os.environ:
                completion.complete(made)
            arguments = made.parse_args(argv)
            arguments.run(arguments)
            if sys.stdout is not None:
                sys.stdout.flush()
    except SystemExit as stop:  # from argparse, which has printed the reason
        return stop.code if isinstance(stop.code, int) else 0
    except Unfinished as unfinished:
        return _report(unfinished.__cause__ or unfinished, f"; {unfinished}")
    except (KeyboardInterrupt, Terminated, OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        return _report(error, "")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="opuproj",
        description="Project files of vectors by the random matrix of an Optical Processing Unit: |Tx|², Rx, Tx or Gx.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"opuproj {__version__}")
    commands = made.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (project, pack, info, bench, demo, completion):
        command.add_parser(commands)
    return made


def _report(error: BaseException, kept: str) -> int:
    """Print one line about the error that stopped a command; return the exit code."""
    if isinstance(error, BrokenPipeError):
        # At exit Python would write the remaining output and report an error.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt):
        code, text = INTERRUPTED, "interrupted"
    elif isinstance(error, Terminated):
        code, text = TERMINATED, "terminated"
    else:
        code, text = REFUSED, f"error: {_text(error)}"
    if sys.stderr is not None:
        print(_printable(f"opuproj: {text}{kept}"), file=sys.stderr)
    return code


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _printable(text: str) -> str:
    """Escape characters that break the line or control the terminal, because file names may contain any."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def _termination() -> Iterator[None]:
    """Turn SIGTERM into an exception, like Ctrl-C, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
