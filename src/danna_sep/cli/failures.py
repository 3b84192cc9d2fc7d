"""Exceptions as one line for the person at the keyboard, and as an exit code for the script."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from danna_sep.errors import (
    AudioError,
    Cancelled,
    ConfigError,
    DannaSepError,
    EvaluationError,
    OutputError,
    SongsError,
    WeightsError,
)

OK, UNEXPECTED, BAD_INPUT, BAD_OUTPUT, BAD_WEIGHTS, INTERRUPTED, STDOUT_CLOSED = 0, 1, 2, 3, 4, 130, 141

_CODES: tuple[tuple[type[DannaSepError], int], ...] = (
    (AudioError, BAD_INPUT),
    (ConfigError, BAD_INPUT),
    (SongsError, BAD_INPUT),
    (EvaluationError, BAD_INPUT),
    (OutputError, BAD_OUTPUT),
    (WeightsError, BAD_WEIGHTS),
    (Cancelled, INTERRUPTED),
)


def exit_code(error: BaseException) -> int:
    """The exit code that an exception stands for."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), UNEXPECTED)


def message(error: BaseException, path: Path | None = None) -> str:
    """What to show of an exception: one line, which begins with the file that it concerns."""
    if isinstance(error, DannaSepError):
        text = str(error)
    elif isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        text = "out of memory; try a shorter --segment, or without --whole"
    else:
        text = f"unexpected {type(error).__name__}: {error} (--verbose shows where)"
    if path is not None and not text.startswith(f"{path}: "):
        text = f"{path}: {text}"
    return one_line(text)


def one_line(text: str) -> str:
    """The text without line breaks, and without what a file's name could do to a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def complain(text: str) -> None:
    """One line on stderr."""
    print(f"danna-sep: {one_line(text)}", file=sys.stderr, flush=True)


def show_traceback(error: BaseException) -> None:
    """Where an exception came from, on stderr."""
    traceback.print_exception(type(error), error, error.__traceback__)


@contextmanager
def ending_the_program(verbose: bool = False) -> Iterator[None]:
    """Turns whatever is raised inside into a line on stderr and the program's exit code."""
    try:
        with warnings.catch_warnings():
            if not verbose:
                warnings.simplefilter("ignore")  # Python's own are for developers
            yield
        sys.stdout.flush()
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except BrokenPipeError:
        drop_stdout()
        raise typer.Exit(STDOUT_CLOSED) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        complain(message(error))
        if verbose:
            show_traceback(error)
        raise typer.Exit(exit_code(error)) from None


def drop_stdout() -> None:
    """Let go of a stdout that nobody reads any more, so that flushing it at exit does not fail."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
