"""What processes that work for another one have in common: how they hear of its end, and how errors come back."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

FOR_THE_PARENT: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name))
"""Signals that a terminal sends to all its processes: Ctrl-C, and that it closes."""


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Signals of the terminal come when the block has ended; processes that it starts never hear them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve_parent() -> None:
    """Called first in a worker: it leaves Ctrl-C to the process that it works for, and ends when that one does."""
    leave_the_terminal_to_the_parent()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def leave_the_terminal_to_the_parent() -> None:
    """Its signals reach all processes; the one that the others work for tells them."""
    for number in FOR_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)


def sendable(error: Exception) -> Exception:
    """The same, or its text where it could not cross to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _end_with_parent() -> None:
    """A process that nobody reads from any more must not go on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
