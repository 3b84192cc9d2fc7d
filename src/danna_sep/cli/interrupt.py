"""SIGINT, SIGTERM and, where there is one, SIGHUP: an orderly stop, and on a second one an immediate one."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from danna_sep.errors import Cancelled

if TYPE_CHECKING:
    from danna_sep.separators import Separator
    from danna_sep.sessions import Session
    from danna_sep.shapes import Mixture, Stems
    from danna_sep.signal.overlap_add import SegmentGrid

_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)  # Windows has no SIGHUP
)
_SAME_KEYSTROKE_S = 0.5
"""Wrappers pass one Ctrl-C on twice; signals this close together count as one."""


class Interrupt:
    """While its `with` block runs, a signal asks for an orderly stop instead of ending the process.

    Computation that goes on inside `anywhere()` is left at once, all
    else at the next `check()`. A second signal ends the process even inside a single long operation; hidden
    `.danna-sep-*.part` files can then stay behind.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._raises = False
        self._previous: dict[int, Any] = {}
        self._bell: tuple[socket.socket, socket.socket] | None = None
        self._previous_bell = -1
        self._terminals: list[int] = []

    def __call__(self) -> bool:
        """Whether a stop was asked for."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP, 0 for none."""
        return 0 if self.signal is None else 128 + self.signal

    def check(self) -> None:
        """Raise Cancelled if a stop was asked for."""
        if self():
            raise Cancelled("interrupted")

    @contextmanager
    def anywhere(self) -> Iterator[None]:
        """What runs inside holds nothing that must be put in order: a signal raises Cancelled wherever it is."""
        self._raises = True
        try:
            self.check()
            yield
        finally:
            self._raises = False

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._terminals = [number for number in (1, 2) if os.isatty(number)]
            self._previous = {number: signal.getsignal(number) for number in _SIGNALS}
            for number, handler in self._previous.items():
                if handler is not signal.SIG_IGN:  # a shell's background jobs ignore SIGINT, and nohup's should
                    signal.signal(number, self._handle)
            self._bell = socket.socketpair()
            self._bell[1].setblocking(False)
            self._previous_bell = signal.set_wakeup_fd(self._bell[1].fileno(), warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(self._bell[0],), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bell is not None:
            signal.set_wakeup_fd(self._previous_bell)
            for number, handler in self._previous.items():
                signal.signal(number, handler)
            self._bell[1].close()  # ends the watcher

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number
        if number not in (signal.SIGINT, signal.SIGTERM):
            self._let_go_of_the_terminal()
        if self._raises:
            self._raises = False
            raise Cancelled("interrupted")

    def _let_go_of_the_terminal(self) -> None:
        """It is closed: to write to it, be it that all is in order, would fail."""
        nothing = os.open(os.devnull, os.O_WRONLY)
        for number in self._terminals:
            os.dup2(nothing, number)
        os.close(nothing)

    @staticmethod
    def _watch(bell: socket.socket) -> None:
        # A thread, because Python runs handlers between two operations only, and one of a network can take minutes.
        first_s: float | None = None
        with bell:
            while rung := bell.recv(1):
                if rung[0] not in _SIGNALS:
                    continue
                if first_s is None:
                    first_s = time.monotonic()
                elif time.monotonic() - first_s > _SAME_KEYSTROKE_S:
                    os._exit(128 + rung[0])


class Interruptible:
    """A separator that a signal stops in the middle of its computation."""

    def __init__(self, separator: Separator, interrupt: Interrupt) -> None:
        self.separator = separator
        self.interrupt = interrupt
        self.sources = separator.sources
        self.sample_rate = separator.sample_rate
        self.device = getattr(separator, "device", "cpu")
        self.hears_whole_tracks = getattr(separator, "hears_whole_tracks", False)

    def __call__(self, mixture: Mixture) -> Stems:
        """See `Separator`."""
        with self.interrupt.anywhere():
            return self.separator(mixture)

    def session(self, grid: SegmentGrid | None, n_together: int) -> Session:
        """Its own session, which a signal stops in the same way."""
        from danna_sep.sessions import open_session

        return _InterruptibleSession(open_session(self.separator, grid, n_together), self.interrupt)

    def only_masks(self, grid: SegmentGrid) -> bool:
        """Whether the other does."""
        from danna_sep.mask_session import only_masks

        return only_masks(self.separator, grid)

    def only(self, sources: Sequence[str]) -> Interruptible:
        """The same for some of its sources."""
        from danna_sep.separators import only

        return Interruptible(only(self.separator, sources), self.interrupt)


class _InterruptibleSession:
    def __init__(self, session: Session, interrupt: Interrupt) -> None:
        self.session, self.interrupt = session, interrupt

    def hear(self, segment: Mixture, is_last: bool) -> None:
        with self.interrupt.anywhere():
            self.session.hear(segment, is_last)

    def n_ready(self, most: int) -> int:
        with self.interrupt.anywhere():
            return self.session.n_ready(most)

    def separate(self, n_segments: int) -> Iterator[Stems]:
        computing = self.session.separate(n_segments)
        for _ in range(n_segments):
            with self.interrupt.anywhere():
                stems = next(computing)
            yield stems
