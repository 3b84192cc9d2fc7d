"""What `fit-blend` shows: tables or JSON on stdout, a bar on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from danna_sep.cli.failures import complain, one_line
from danna_sep.cli.render import json_line, say, table
from danna_sep.cli.render_evaluation import not_counted
from danna_sep.types import SOURCES

if TYPE_CHECKING:
    from danna_sep.evaluation.blend_fit import BlendReport


def show(report: BlendReport, precision: str, out: Path | None) -> None:
    """SDR of every separator, given and fitted weights; the weights; what was not counted; the file written."""
    sources = [source for source in SOURCES if source in report.fits]
    means = {source: fit.sdr_db for source, fit in report.fits.items()}
    labels = list(dict.fromkeys(label for row in means.values() for label in row))
    # Fitted rows last, whatever source had which.
    labels.sort(key=lambda label: ("fitted", "cross-validated").index(label) if label in _LAST else -1)
    rows: list[tuple[str, ...]] = [("SDR, dB", *sources, "mean")]
    for label in labels:
        values = [means[source].get(label) for source in sources]
        known = [value for value in values if value is not None]
        mean = f"{sum(known) / len(known):.2f}" if len(known) == len(values) else "-"
        rows.append((one_line(label), *("-" if value is None else f"{value:.2f}" for value in values), mean))
    rows.append(("songs", *(str(len(report.fits[source].songs)) for source in sources), ""))
    table(rows)
    say(f"computed in {precision}")
    say("")
    rows = [(f"{report.constraint} weights", *sources)]
    for name in report.separators:
        weights = [report.fits[source].weights.get(name) for source in sources]
        rows.append((one_line(name), *("-" if weight is None else f"{weight:.4f}" for weight in weights)))
    table(rows)
    for source in SOURCES:
        if source not in report.fits:
            complain(f"warning: no weights for {source}: no song where it can be heard, or no separator has it")
        elif silent := report.fits[source].silent:
            complain(f"warning: {not_counted(source, silent)}")
    if out is not None:
        say("")
        say(str(out))


_LAST = ("fitted", "cross-validated")


def show_json(report: BlendReport, precision: str, out: Path | None) -> None:
    """All of it as one object on one line."""
    json_line(
        {**asdict(report), "blend": report.blend, "precision": precision, "preset": None if out is None else str(out)}
    )


@contextmanager
def bar(quiet: bool) -> Iterator[Callable[[str, float, float], None] | None]:
    """A bar over the seconds of all songs on the terminal behind stderr, if there is one."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as shown:
        task = shown.add_task("", total=None)

        def progress(song: str, done_s: float, total_s: float) -> None:
            shown.update(task, description=one_line(song), completed=done_s, total=total_s)

        yield progress
