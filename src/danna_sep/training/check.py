"""What is wrong with songs, before days of training are spent on them.

Every file is decoded once, from first to last; a song that cannot be used has a fatal finding.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from danna_sep import audio
from danna_sep.errors import AudioError, SongsError
from danna_sep.songs import Song, StemFile
from danna_sep.training.copies import identical_files
from danna_sep.training.residual import about_residual, in_db
from danna_sep.types import SAMPLE_RATE, SOURCES

Samples = npt.NDArray[np.float32]

ACTIVE_DB: Final = -60.0
"""Windows of 93 ms whose root mean square is above this (full scale 0) count as active."""

RESIDUAL_DB: Final = -40.0
"""Stems whose sum differs from the mixture by more, in relation to the mixture, are reported."""

_MIXTURE: Final = "mixture"
_WINDOW: Final = 4096
_BLOCK: Final = 100 * _WINDOW
_CLIPPED: Final = 0.999
_CLIPPED_RUN: Final = 3


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        kind: One of: unreadable, no-stems, missing, rate, length, silent, clipping, damaged, residual, identical.
        text: One line that names files.
        fatal: Whether the song cannot be used.
    """

    kind: str
    text: str
    fatal: bool = False


@dataclass(frozen=True)
class SongReport:
    """What was found about a song.

    Attributes:
        name: The song's.
        split: Likewise.
        duration_s: Of the part that all files have; 0 if it cannot be told.
        active_s: For each annotated source, how long it is active.
        residual_db: Mixture minus stems in relation to the mixture; None where there is no mixture's file, or not all
            stems.
        findings: In the order in which they were found.
    """

    name: str
    split: str | None
    duration_s: float
    active_s: Mapping[str, float]
    residual_db: float | None
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether training can take excerpts of it."""
        return not any(finding.fatal for finding in self.findings)


@dataclass
class _Measured:
    """Sums over a song."""

    n_active: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    n_clipped: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    first_clipped_s: dict[str, float] = field(default_factory=dict)
    mixture_power: float = 0.0
    residual_power: float = 0.0
    loudest: tuple[float, int] = (-1.0, 0)


def check_songs(songs: Sequence[Song]) -> Iterator[SongReport]:
    """Check one song after the other, and whether files of theirs are identical.

    Yields:
        A report for each song, in their order.
    """
    copies = identical_files(songs)
    for song in songs:
        yield _check_song(song, copies)


def hours_per_stem(reports: Iterable[SongReport]) -> dict[str, tuple[float, float]]:
    """Of the usable songs, for each source: hours that are annotated, and hours in which it is active."""
    hours = dict.fromkeys(SOURCES, (0.0, 0.0))
    for report in reports:
        if report.usable:
            for source, active_s in report.active_s.items():
                annotated, active = hours[source]
                hours[source] = (annotated + report.duration_s / 3600, active + active_s / 3600)
    return hours


def _check_song(song: Song, copies: Mapping[Path, Sequence[str]]) -> SongReport:
    findings = list(_findings_of_headers(song))
    if any(finding.fatal for finding in findings):
        return SongReport(song.name, song.split, 0.0, {}, None, tuple(findings))
    with _warnings() as warnings:
        try:
            measured = _measure(song)
        except (AudioError, SongsError):
            measured = None
    if measured is None:
        findings += _undecodable_files(song)
        return SongReport(song.name, song.split, song.n_frames / SAMPLE_RATE, {}, None, tuple(findings))
    findings += [Finding("damaged", warning) for warning in dict.fromkeys(warnings)]
    active_s = {
        source: min(measured.n_active[source] * _WINDOW, song.n_frames) / SAMPLE_RATE for source in song.annotated
    }
    silent = [source for source in song.annotated if source in song.files and not active_s[source]]
    findings += [Finding("silent", f"{_names(song, source)}: silent from first to last") for source in silent]
    for part, n_clipped in measured.n_clipped.items():
        where = f"{n_clipped} places, the first at {measured.first_clipped_s[part]:.2f} s"
        findings.append(Finding("clipping", f"{_names(song, part)}: seems to be clipped in {where}"))
    residual_db = None
    if _MIXTURE in song.files and len(song.annotated) == len(SOURCES):
        residual_db = in_db(measured.residual_power) - in_db(measured.mixture_power)
        if residual_db > RESIDUAL_DB and measured.residual_power > 0:
            findings.append(Finding("residual", about_residual(song, residual_db, measured.loudest[1])))
    for part, files in song.files.items():
        if measured.n_active[part]:
            findings += [
                Finding("identical", f"{file.path}: the same as {', '.join(map(str, copies[file.path]))}")
                for file in files
                if file.path in copies
            ]
    return SongReport(
        song.name, song.split, song.n_frames / SAMPLE_RATE, active_s, residual_db, tuple(dict.fromkeys(findings))
    )


def _findings_of_headers(song: Song) -> Iterator[Finding]:
    if not song.annotated:
        yield Finding("no-stems", f"{song.name}: no stem of it is annotated", fatal=True)
    if missing := [source for source in SOURCES if source not in song.annotated]:
        yield Finding("missing", f"{song.name}: {', '.join(missing)} not annotated")
    rates, lengths = {}, {}
    for part, files in song.files.items():
        for file in files:
            try:
                info = audio.probe(file.path, stream=file.stream)
            except AudioError as error:
                yield Finding("unreadable", str(error), fatal=True)
                continue
            if info.n_channels > 2:
                text = f"{file.path}: has {info.n_channels} channels; stems must be mono or stereo"
                yield Finding("unreadable", text, fatal=True)
            if info.n_frames is None:
                text = f"{file.path}: does not tell its length; convert it to WAV or FLAC first"
                yield Finding("unreadable", text, fatal=True)
                continue
            rates[_name(file, part)] = info.sample_rate
            lengths[_name(file, part)] = audio.resampled_length(info.n_frames, info.sample_rate, SAMPLE_RATE)
    if len(set(rates.values())) > 1:
        yield Finding("rate", f"{song.name}: sample rates differ: {_listed(rates, 'Hz')}")
    elif set(rates.values()) - {SAMPLE_RATE}:
        yield Finding("rate", f"{song.name}: has {next(iter(rates.values()))} Hz, and is converted at each reading")
    if len(set(lengths.values())) > 1:
        shortest = min(lengths.values())
        longer = {name: length - shortest for name, length in lengths.items() if length > shortest}
        text = f"{song.name}: lengths differ, what is beyond the shortest is not used: {_listed(longer, 'frames more')}"
        yield Finding("length", text)


def _measure(song: Song) -> _Measured:
    measured, start = _Measured(), 0
    for excerpt in song.blocks(_BLOCK):
        parts = dict(zip(SOURCES, excerpt.stems, strict=True))
        if _MIXTURE in song.files:
            parts[_MIXTURE] = excerpt.mixture
        for part, samples in parts.items():
            measured.n_active[part] += _n_active(samples)
            if part in song.files:
                places = _clipped_places(samples)
                if places.size:
                    measured.first_clipped_s.setdefault(part, (start + int(places[0])) / SAMPLE_RATE)
                    measured.n_clipped[part] += places.size
        power = float(np.square(excerpt.mixture, dtype=np.float64).sum())
        measured.mixture_power += power
        measured.residual_power += float(np.square(excerpt.mixture - excerpt.stems.sum(0), dtype=np.float64).sum())
        measured.loudest = max(measured.loudest, (power, start))
        start += excerpt.mixture.shape[1]
    return measured


def _n_active(samples: Samples) -> int:
    """Windows that are louder than ACTIVE_DB."""
    padded = np.pad(samples, ((0, 0), (0, -samples.shape[1] % _WINDOW)))
    power = np.square(padded, dtype=np.float64).reshape(2, -1, _WINDOW).mean((0, 2))
    return int((power > 10 ** (ACTIVE_DB / 10)).sum())


def _clipped_places(samples: Samples) -> npt.NDArray[np.intp]:
    """Where three or more samples of a channel in a row begin to be at full scale, all of one sign."""
    full = np.stack((samples >= _CLIPPED, samples <= -_CLIPPED))
    n_runs = full.shape[-1] - _CLIPPED_RUN + 1
    if n_runs < 1:
        return np.empty(0, np.intp)
    runs = np.all([full[..., shift : shift + n_runs] for shift in range(_CLIPPED_RUN)], 0)
    begins = runs & ~np.pad(runs[..., :-1], ((0, 0), (0, 0), (1, 0)))
    return np.flatnonzero(begins.any((0, 1)))


def _undecodable_files(song: Song) -> Iterator[Finding]:
    """Each file by itself, so that all that are broken are named."""
    for files in song.files.values():
        for file in files:
            try:
                with audio.AudioReader(file.path, stream=file.stream, warn=lambda _: None) as reader:
                    for _ in reader.blocks(_BLOCK):
                        pass
            except AudioError as error:
                yield Finding("unreadable", str(error), fatal=True)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What readers warn of, instead of on stderr."""
    messages: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, handler = logging.getLogger(audio.__name__), Collect(logging.WARNING)
    passed_on = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = passed_on


def _name(file: StemFile, part: str) -> str:
    return f"{file.path.name}" if not file.stream else f"{file.path.name} ({part})"


def _names(song: Song, part: str) -> str:
    return f"{song.name}: {part}" if len(song.files[part]) > 1 else str(song.files[part][0].path)


def _listed(values: Mapping[str, int], unit: str) -> str:
    return ", ".join(f"{name} {value} {unit}" for name, value in values.items())
