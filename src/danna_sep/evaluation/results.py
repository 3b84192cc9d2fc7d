"""Results of an evaluation, and the JSON file that keeps them.

    {"format": "danna-sep evaluation", "version": 1, "package": "danna-sep 2.0.0",
     "system": {...}, "data": {"name": ..., "split": ...}, "failed": [{"name": ..., "message": ...}],
     "songs": [{"name": ..., "split": ..., "n_frames": ..., "annotated": [...], "silent": [...],
                "mdx_sdr_db": {"drums": 5.1, ...},
                "bss_eval_db": {"drums": {"SDR": 5.3, "ISR": ..., "SIR": ..., "SAR": ...}, ...},
                "windows_db": {"drums": {"SDR": [5.0, null, ...], ...}, ...}}, ...],
     "aggregate": {"mdx_sdr_db": {"drums": 5.2, ..., "mean": 6.0}, "n_songs": {"drums": 50, ...},
                   "bss_eval_db": {"SDR": {"drums": 5.4, ..., "mean": 6.2}, ...}}}

All ratios are in dB. null stands for what has no value: a silent or infinite window, a source that is not annotated or
silent, a mean of sources one of which has no value. What the windows decide (`bss_eval_db`, `aggregate`) is written for
other readers, and computed anew here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

from danna_sep import __version__, atomic
from danna_sep.errors import EvaluationError
from danna_sep.types import SAMPLE_RATE, SOURCES

MEASURES: Final = ("SDR", "ISR", "SIR", "SAR")
"""Of BSS Eval."""

FORMAT: Final = "danna-sep evaluation"
VERSION: Final = 1
MEAN: Final = "mean"
"""Stands beside the sources for the mean over all four."""

_DIGITS: Final = 5


@dataclass(frozen=True)
class SongResult:
    """What was measured on one song.

    Attributes:
        name: The song's.
        split: The split that it lies in, if any.
        n_frames: Its length at 44.1 kHz.
        annotated: Sources that it has.
        mdx_sdr_db: For each of the four sources.
        windows: For each source that was judged, for each measure of BSS Eval, a value per window, dB; empty if BSS
            Eval was left out.
        silent: Sources that were judged and are too quiet for the MDX challenge's measure.
    """

    name: str
    split: str | None
    n_frames: int
    annotated: tuple[str, ...]
    mdx_sdr_db: Mapping[str, float | None]
    windows: Mapping[str, Mapping[str, tuple[float | None, ...]]] = field(default_factory=dict)
    silent: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length."""
        return self.n_frames / SAMPLE_RATE

    def bss_eval_db(self, source: str, measure: str = "SDR") -> float | None:
        """Median over the windows that have a value."""
        return _over(median, self.windows[source][measure]) if source in self.windows else None


@dataclass(frozen=True)
class Failed:
    """A song that could not be measured, and why."""

    name: str
    message: str


@dataclass(frozen=True)
class Results:
    """What was measured on all songs.

    Attributes:
        system: What was evaluated, as `System.describe` says it.
        data: Name of the folder of songs, and the split that was chosen.
        songs: Sorted by name.
        failed: Those that could not be measured.
        package: What measured.
    """

    system: Mapping[str, Any]
    data: Mapping[str, Any]
    songs: Sequence[SongResult]
    failed: Sequence[Failed] = ()
    package: str = f"danna-sep {__version__}"

    @property
    def has_bss_eval(self) -> bool:
        """Whether BSS Eval was measured."""
        return any(song.windows for song in self.songs)

    def bss_eval_db(self, measure: str = "SDR") -> dict[str, float | None]:
        """Median over songs of the median over windows, for each source; and the mean of these."""
        return _with_mean(
            {source: _over(median, [song.bss_eval_db(source, measure) for song in self.songs]) for source in SOURCES}
        )

    def mdx_sdr_db(self) -> dict[str, float | None]:
        """Mean over songs, for each source; and the mean of these."""
        return _with_mean(
            {source: _over(fmean, [song.mdx_sdr_db[source] for song in self.songs]) for source in SOURCES}
        )

    def n_songs(self) -> dict[str, int]:
        """Songs that have a value of the MDX challenge's measure, for each source."""
        return {source: sum(song.mdx_sdr_db[source] is not None for song in self.songs) for source in SOURCES}


def finite(value: float) -> float | None:
    """The value for JSON: None for NaN, and for infinite ones, which museval's files leave out too."""
    return round(value, _DIGITS) if math.isfinite(value) else None


def song_summary(song: SongResult) -> dict[str, Any]:
    """A song's values as JSON, without those of its windows."""
    return {
        "name": song.name,
        "split": song.split,
        "n_frames": song.n_frames,
        "annotated": list(song.annotated),
        "silent": list(song.silent),
        "mdx_sdr_db": _all_rounded(song.mdx_sdr_db),
        "bss_eval_db": {
            source: _all_rounded({measure: song.bss_eval_db(source, measure) for measure in MEASURES})
            for source in song.windows
        },
    }


def aggregate(results: Results) -> dict[str, Any]:
    """The values over all songs as JSON."""
    content: dict[str, Any] = {"mdx_sdr_db": _all_rounded(results.mdx_sdr_db()), "n_songs": results.n_songs()}
    if results.has_bss_eval:
        content["bss_eval_db"] = {measure: _all_rounded(results.bss_eval_db(measure)) for measure in MEASURES}
    return content


def as_json(results: Results) -> dict[str, Any]:
    """The content of a results file."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "package": results.package,
        "system": dict(results.system),
        "data": dict(results.data),
        "aggregate": aggregate(results),
        "failed": [asdict(failed) for failed in results.failed],
        "songs": [
            {
                **song_summary(song),
                "windows_db": {
                    source: {measure: list(values) for measure, values in rows.items()}
                    for source, rows in song.windows.items()
                },
            }
            for song in results.songs
        ],
    }


def write_results(path: Path, results: Results) -> None:
    """Write a results file, whole or not at all.

    Raises:
        WriteFailed: The folder cannot be written, or the disk is full.
    """
    content = as_json(results)
    # A line for each song: thousands of windows, one below the other, are nothing to look at.
    songs = ",\n".join(json.dumps(song, allow_nan=False) for song in content["songs"])
    head = json.dumps({**content, "songs": []}, allow_nan=False, indent=1).removesuffix("]\n}")
    text = f"{head}\n{songs}\n]}}\n"
    with atomic.replacing(path) as file:
        file.write(text.encode("ascii"))


def read_results(path: Path | str) -> Results:
    """Read a results file, or the one in a folder that `danna-sep evaluate` wrote.

    Raises:
        EvaluationError: No such file, or not one that this version understands.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "results.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EvaluationError(f"{path}: no such file; give the results.json that `danna-sep evaluate` wrote") from None
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: cannot be read as results of an evaluation ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise EvaluationError(f"{path}: no results of `danna-sep evaluate`")
    if content.get("version") != VERSION:
        raise EvaluationError(
            f"{path}: results of format version {content.get('version')}; this version of danna-sep reads {VERSION}"
        )
    try:
        return Results(
            system=dict(content["system"]),
            data=dict(content["data"]),
            songs=[_song(entry) for entry in content["songs"]],
            failed=[Failed(entry["name"], entry["message"]) for entry in content["failed"]],
            package=content["package"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvaluationError(f"{path}: damaged results of an evaluation ({error!r})") from error


def _song(entry: Mapping[str, Any]) -> SongResult:
    windows = {
        source: {measure: tuple(_number(value) for value in rows[measure]) for measure in MEASURES}
        for source, rows in entry["windows_db"].items()
    }
    return SongResult(
        name=str(entry["name"]),
        split=entry["split"],
        n_frames=int(entry["n_frames"]),
        annotated=tuple(entry["annotated"]),
        mdx_sdr_db={source: _number(entry["mdx_sdr_db"][source]) for source in SOURCES},
        windows=windows,
        silent=tuple(entry.get("silent", ())),  # files of earlier versions do not tell
    )


def _number(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is no number of dB")
    return number


def _over(summary: Callable[[list[float]], float], values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(summary(there)) if there else None


def _with_mean(values: dict[str, float | None]) -> dict[str, float | None]:
    there = [value for value in values.values() if value is not None]
    return {**values, MEAN: fmean(there) if len(there) == len(values) else None}


def _all_rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, _DIGITS) for name, value in values.items()}
