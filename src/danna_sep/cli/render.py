"""What `separate` shows: lines, a bar, or JSON. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from danna_sep.cli.failures import complain, message, one_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from danna_sep.api import FileResult
    from danna_sep.audio import AudioInfo


class Report(Protocol):
    """Is told what happens."""

    def start(self, info: AudioInfo, index: int, n_files: int) -> None:
        """A file's turn has come."""

    def progress(self, path: Path, done_s: float, total_s: float | None, left_s: float | None) -> None:
        """So many seconds of its audio are separated."""

    def warning(self, path: Path | None, text: str) -> None:
        """The user should know this."""

    def done(self, path: Path, result: FileResult, elapsed_s: float) -> None:
        """A file's stems are written."""

    def error(self, path: Path | None, error: Exception) -> None:
        """A file failed, or all of it."""

    def end(self, n_done: int, n_failed: int, exit_code: int) -> None:
        """Nothing more comes."""


class Lines:
    """The paths that were written on stdout; warnings and errors as lines on stderr."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def start(self, info: AudioInfo, index: int, n_files: int) -> None:
        """Nothing to show."""

    def progress(self, path: Path, done_s: float, total_s: float | None, left_s: float | None) -> None:
        """Nothing to show."""

    def warning(self, path: Path | None, text: str) -> None:
        """One line."""
        self._complain(f"warning: {text}")

    def done(self, path: Path, result: FileResult, elapsed_s: float) -> None:
        """One line for each stem."""
        if not self.quiet:
            for written in result.stems.values():
                say(str(written))

    def error(self, path: Path | None, error: Exception) -> None:
        """One line."""
        self._complain(message(error, path))

    def end(self, n_done: int, n_failed: int, exit_code: int) -> None:
        """Nothing to show."""

    def _complain(self, text: str) -> None:
        complain(text)


class Bar(Lines):
    """Lines, and a bar for the file at work on the terminal behind stderr."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._started_s = 0.0
        self._n_files = 0

    def start(self, info: AudioInfo, index: int, n_files: int) -> None:
        """Show the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._n_files = n_files
        count = f"[{index + 1}/{n_files}] " if n_files > 1 else ""
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=Console(stderr=True),
            transient=True,
            # stdout may be a file: what is printed there must not come out at the bar's place.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task(one_line(f"{count}{info.path.name}"), total=info.duration_s, status="")
        self._started_s = time.monotonic()
        self._bar.start()

    def progress(self, path: Path, done_s: float, total_s: float | None, left_s: float | None) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            speed = done_s / max(time.monotonic() - self._started_s, 1e-3)
            left = "" if left_s is None else f"{int(left_s) // 60}:{int(left_s) % 60:02d} left, "
            self._bar.update(self._task, completed=done_s, status=f"{left}{speed:.1f}x real time")

    def done(self, path: Path, result: FileResult, elapsed_s: float) -> None:
        """Take the bar away, then the lines."""
        self._stop()
        super().done(path, result, elapsed_s)

    def error(self, path: Path | None, error: Exception) -> None:
        """Take the bar away, then the line."""
        self._stop()
        super().error(path, error)

    def end(self, n_done: int, n_failed: int, exit_code: int) -> None:
        """How many of many failed."""
        self._stop()
        if n_failed and n_done + n_failed > 1:
            complain(f"{n_done} done, {n_failed} failed")

    def _complain(self, text: str) -> None:
        if self._bar is None:
            complain(text)
        else:
            self._bar.console.print(f"danna-sep: {one_line(text)}", markup=False, highlight=False, soft_wrap=True)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class JsonLines:
    """One JSON object a line on stdout for everything that happens."""

    def start(self, info: AudioInfo, index: int, n_files: int) -> None:
        """Event `start`."""
        properties = {"sample_rate": info.sample_rate, "channels": info.n_channels, "duration_s": info.duration_s}
        _event("start", file=str(info.path), **properties)

    def progress(self, path: Path, done_s: float, total_s: float | None, left_s: float | None) -> None:
        """Event `progress`."""
        _event("progress", file=str(path), done_s=_ms(done_s), total_s=_ms(total_s), left_s=_ms(left_s))

    def warning(self, path: Path | None, text: str) -> None:
        """Event `warning`; `file` is null if it concerns no single file."""
        _event("warning", file=_name(path), message=text)

    def done(self, path: Path, result: FileResult, elapsed_s: float) -> None:
        """Event `done`."""
        stems = {stem: str(written) for stem, written in result.stems.items()}
        _event("done", file=str(path), stems=stems, gain=result.gain, elapsed_s=_ms(elapsed_s))

    def error(self, path: Path | None, error: Exception) -> None:
        """Event `error`; `file` is null if it concerns no single file."""
        _event("error", file=_name(path), kind=type(error).__name__, message=message(error, path))

    def end(self, n_done: int, n_failed: int, exit_code: int) -> None:
        """Event `end`, the last."""
        _event("end", n_done=n_done, n_failed=n_failed, exit_code=exit_code)


def choose(as_json: bool, quiet: bool) -> Report:
    """The report that fits the options and the terminal."""
    if as_json:
        return JsonLines()
    return Bar() if sys.stderr.isatty() and not quiet else Lines(quiet)


def say(text: str) -> None:
    """One line on stdout, at once.

    Raises:
        BrokenPipeError: Nobody reads it any more.
    """
    print(text, flush=True)


def table(rows: Sequence[tuple[str, ...]]) -> None:
    """Rows in aligned columns on stdout, the last column as long as it likes."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip())


def json_line(content: Mapping[str, Any]) -> None:
    """One JSON object on one line of stdout; plain ASCII, whatever the names of files are."""
    say(json.dumps(content, allow_nan=False))


def _event(event: str, **content: Any) -> None:
    json_line({"event": event, **content})


def _name(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
