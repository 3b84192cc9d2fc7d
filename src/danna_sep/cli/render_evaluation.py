"""What `evaluate` and `compare` show: tables, or JSON. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from danna_sep.cli.failures import complain, message, one_line
from danna_sep.cli.render import json_line, say

if TYPE_CHECKING:
    from danna_sep.evaluation.compare import Comparison, Difference
    from danna_sep.evaluation.evaluate import Failure
    from danna_sep.evaluation.results import Results, SongResult

Outcomes = Iterator["SongResult | Failure"]


class Show(Protocol):
    """Is told what happens."""

    def progress(self, outcomes: Outcomes, n_songs: int) -> Outcomes:
        """The same, while something shows how many have come."""
        ...

    def warning(self, text: str) -> None:
        """The user should know this."""

    def song(self, song: SongResult) -> None:
        """A song is measured."""

    def failure(self, failure: Failure) -> None:
        """A song failed."""

    def end(self, results: Results, written: Sequence[Path], code: int) -> None:
        """Nothing more comes."""


class Tables:
    """Tables on stdout when all is done; warnings and errors as lines on stderr."""

    def __init__(self, verbose: bool) -> None:
        self.verbose = verbose

    def progress(self, outcomes: Outcomes, n_songs: int) -> Outcomes:
        """A bar, if there is a terminal behind stderr."""
        if not sys.stderr.isatty():
            yield from outcomes
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

        columns = (BarColumn(), MofNCompleteColumn(), "songs", TimeElapsedColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
            task = bar.add_task("songs", total=n_songs)
            for outcome in outcomes:
                bar.advance(task)
                yield outcome

    def warning(self, text: str) -> None:
        """One line."""
        complain(f"warning: {text}")

    def song(self, song: SongResult) -> None:
        """Nothing to show."""

    def failure(self, failure: Failure) -> None:
        """One line."""
        complain(message(failure.error))
        if self.verbose:
            print(failure.where, file=sys.stderr)

    def end(self, results: Results, written: Sequence[Path], code: int) -> None:
        """Tables, and where the report is."""
        from danna_sep.evaluation import report

        if not results.songs:
            complain("no song could be evaluated; nothing was written")
            return
        value = report.bss_sdr if results.has_bss_eval else report.mdx_sdr
        say(f"SDR, {'BSS Eval v4' if results.has_bss_eval else 'MDX 2021'}, dB")
        _columns(report.song_rows(results.songs, value))
        say("")
        say("over songs, dB")
        _columns(report.aggregate_rows(results))
        if results.failed:
            complain(f"{len(results.songs)} evaluated, {len(results.failed)} failed: these are not in the figures")
        say("")
        for path in written:
            say(str(path))


class JsonLines:
    """One JSON object a line on stdout for everything that happens."""

    def progress(self, outcomes: Outcomes, n_songs: int) -> Outcomes:
        """Event `start`."""
        json_line({"event": "start", "n_songs": n_songs})
        return outcomes

    def warning(self, text: str) -> None:
        """Event `warning`."""
        json_line({"event": "warning", "message": text})

    def song(self, song: SongResult) -> None:
        """Event `song`."""
        from danna_sep.evaluation.results import song_summary

        json_line({"event": "song", **song_summary(song)})

    def failure(self, failure: Failure) -> None:
        """Event `error`."""
        kind = type(failure.error).__name__
        json_line({"event": "error", "name": failure.name, "kind": kind, "message": message(failure.error)})

    def end(self, results: Results, written: Sequence[Path], code: int) -> None:
        """Event `end`, the last."""
        from danna_sep.evaluation.results import aggregate

        json_line(
            {
                "event": "end",
                "aggregate": aggregate(results),
                "written": [str(path) for path in written],
                "n_done": len(results.songs),
                "n_failed": len(results.failed),
                "exit_code": code,
            }
        )


def choose(as_json: bool, verbose: bool) -> Show:
    """What fits the options."""
    return JsonLines() if as_json else Tables(verbose)


def not_counted(source: str, songs: Sequence[str], measure: str = "") -> str:
    """What to say of songs in which a source is too quiet for a ratio to it."""
    from danna_sep.evaluation.metrics import SILENT_DB

    return f"{source} below {SILENT_DB} dB, not counted{measure and f' in {measure}'}: {', '.join(songs)}"


def show_comparison(comparison: Comparison, as_json: bool) -> None:
    """Differences with their intervals."""
    from danna_sep.evaluation.compare import MIN_SONGS

    if as_json:
        json_line(asdict(comparison))
        return
    for name in comparison.left_out:
        complain(f"warning: {name}: in one of the two only; left out")
    say(f"second minus first, dB, with 95 % intervals; {len(comparison.songs)} songs in common")
    heading = ("", "stem", "songs", "mean", "", "median", "")
    _columns([heading, *(_difference_row(difference) for difference in comparison.differences)], n_left=2)
    counts = [difference.n_songs for difference in comparison.differences]
    if min(counts) < MIN_SONGS:
        say(f"no interval where there are fewer than {MIN_SONGS} songs: too few to tell how much songs differ")


def _difference_row(difference: Difference) -> tuple[str, ...]:
    return (
        difference.measure,
        difference.stem,
        str(difference.n_songs),
        _signed(difference.mean),
        _interval(difference.mean_interval),
        _signed(difference.median),
        _interval(difference.median_interval),
    )


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:+.2f}, {interval[1]:+.2f}]"


def _columns(rows: Sequence[tuple[str, ...]], n_left: int = 1) -> None:
    """Rows in aligned columns: names to the left, numbers to the right."""
    rows = [tuple(one_line(cell) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if place < n_left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())
