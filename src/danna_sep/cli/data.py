"""`danna-sep data`: songs with stems, as training needs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from danna_sep.cli.failures import BAD_INPUT, OK, one_line
from danna_sep.cli.render import json_line, say, table

if TYPE_CHECKING:
    from danna_sep.training.check import SongReport


def check(folder: Path, split: str | None, as_json: bool) -> int:
    """Check all songs and show what was found, and hours per stem; gives the exit code."""
    from danna_sep.songs import find_songs
    from danna_sep.training.check import check_songs, hours_per_stem

    reports = []
    for report in check_songs(find_songs(folder, split)):
        reports.append(report)
        _show_json(report) if as_json else _show(report)
    hours = hours_per_stem(reports)
    n_unusable = sum(not report.usable for report in reports)
    n_conspicuous = sum(report.usable and bool(report.findings) for report in reports)
    if as_json:
        stems = {source: {"annotated_h": known, "active_h": active} for source, (known, active) in hours.items()}
        counts = {"n_songs": len(reports), "n_unusable": n_unusable, "n_with_findings": n_conspicuous}
        json_line({"event": "summary", **counts, "stems": stems})
    else:
        say(f"{len(reports)} songs: {n_unusable} cannot be used, {n_conspicuous} others with findings")
        rows = [(source, f"{known:.2f} h", f"{active:.2f} h") for source, (known, active) in hours.items()]
        table([("STEM", "ANNOTATED", "ACTIVE"), *rows])
    return BAD_INPUT if n_unusable else OK


def _show(report: SongReport) -> None:
    minutes, seconds = divmod(round(report.duration_s), 60)
    stems = [_share(source, active_s, report.duration_s) for source, active_s in report.active_s.items()]
    state = "ok" if not report.findings else "look" if report.usable else "unusable"
    say(one_line(f"{state:<8}  {_full_name(report)}  {_joined([f'{minutes}:{seconds:02d}', *stems])}"))
    for finding in report.findings:
        say(one_line(f"          {finding.kind}: {finding.text}"))


def _show_json(report: SongReport) -> None:
    findings = [{"kind": each.kind, "fatal": each.fatal, "message": each.text} for each in report.findings]
    json_line(
        {
            "event": "song",
            "name": report.name,
            "split": report.split,
            "usable": report.usable,
            "duration_s": round(report.duration_s, 3),
            "active_s": {source: round(active_s, 3) for source, active_s in report.active_s.items()},
            "residual_db": None if report.residual_db is None else round(report.residual_db, 2),
            "findings": findings,
        }
    )


def _full_name(report: SongReport) -> str:
    return report.name if report.split is None else f"{report.split}/{report.name}"


def _share(source: str, active_s: float, duration_s: float) -> str:
    return f"{source} {100 * active_s / max(duration_s, 1e-9):.0f} %"


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(parts)
