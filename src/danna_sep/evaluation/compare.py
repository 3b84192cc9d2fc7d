"""Whether one system is better than another: both on the same songs, with intervals.

Songs differ far more than systems do, so that the difference is taken song by song. Its interval comes from a bootstrap
over songs: what the mean (or median) difference would have been, had other songs of the same kind been drawn.

Reference: Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile interval).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import numpy as np
import numpy.typing as npt

from danna_sep.errors import EvaluationError
from danna_sep.evaluation.results import MEAN, Results, SongResult
from danna_sep.types import SOURCES

MIN_SONGS: Final = 6
"""With fewer, a percentile interval claims much more than it holds."""

CONFIDENCE: Final = 0.95
_N_RESAMPLES: Final = 10_000
_SEED: Final = 2021

BSS_SDR: Final = "SDR (BSS Eval v4)"
MDX_SDR: Final = "SDR (MDX 2021)"


@dataclass(frozen=True)
class Difference:
    """How far the second system is above the first, dB.

    Attributes:
        measure: BSS_SDR or MDX_SDR.
        stem: A source, or "mean": the mean over the four, of songs that have all.
        n_songs: Songs that have a value in both.
        mean: Over these songs; None if there are none.
        mean_interval: 95 %; None with fewer songs than MIN_SONGS.
        median: Over these songs.
        median_interval: 95 %.
    """

    measure: str
    stem: str
    n_songs: int
    mean: float | None
    mean_interval: tuple[float, float] | None
    median: float | None
    median_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Comparison:
    """Two systems on the songs that both were measured on.

    Attributes:
        songs: Names of these songs.
        left_out: Names of songs that only one of them was measured on.
        differences: Second minus first.
    """

    songs: tuple[str, ...]
    left_out: tuple[str, ...]
    differences: tuple[Difference, ...]


def compare(first: Results, second: Results, *, seed: int = _SEED) -> Comparison:
    """Second minus first, song by song.

    Args:
        first: Results of one system.
        second: Results of the other.
        seed: Of the bootstrap's random numbers; the same for each stem, so that stems are compared on the same draws.

    Raises:
        EvaluationError: No song in common, or one that is not the same in both.
    """
    songs_a = {song.name: song for song in first.songs}
    songs_b = {song.name: song for song in second.songs}
    shared = sorted(set(songs_a) & set(songs_b))
    if not shared:
        raise EvaluationError("the two results share no song; evaluate both systems on the same data")
    for name in shared:
        a, b = songs_a[name], songs_b[name]
        if (a.n_frames, a.annotated) != (b.n_frames, b.annotated):
            raise EvaluationError(
                f"{name}: not the same song in both results ({a.duration_s:.1f} s of {', '.join(a.annotated)}; "
                f"{b.duration_s:.1f} s of {', '.join(b.annotated)}); evaluate both systems on the same data"
            )
    pairs = [(songs_a[name], songs_b[name]) for name in shared]
    measures = [MDX_SDR] if not (first.has_bss_eval and second.has_bss_eval) else [BSS_SDR, MDX_SDR]
    differences = [
        _difference(measure, stem, [(_value(a, measure, stem), _value(b, measure, stem)) for a, b in pairs], seed)
        for measure in measures
        for stem in (*SOURCES, MEAN)
    ]
    return Comparison(tuple(shared), tuple(sorted(set(songs_a) ^ set(songs_b))), tuple(differences))


def bootstrap_interval(
    values: npt.NDArray[np.float64], summary: str, *, seed: int = _SEED, n_resamples: int = _N_RESAMPLES
) -> tuple[float, float]:
    """Percentile interval of the mean or the median of what `values` were drawn from.

    Args:
        values: One for each song.
        summary: "mean" or "median".
        seed: Of the random numbers.
        n_resamples: Draws, with replacement, of as many songs.
    """
    rng = np.random.default_rng(seed)
    take = np.mean if summary == "mean" else np.median
    drawn = values[rng.integers(0, len(values), (n_resamples, len(values)))]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(take(drawn, axis=1), [tail, 100 - tail])
    return float(low), float(high)


def _difference(measure: str, stem: str, pairs: Sequence[tuple[float | None, float | None]], seed: int) -> Difference:
    values = np.array([b - a for a, b in pairs if a is not None and b is not None], np.float64)
    if not len(values):
        return Difference(measure, stem, 0, None, None, None, None)
    enough = len(values) >= MIN_SONGS
    return Difference(
        measure,
        stem,
        len(values),
        float(values.mean()),
        bootstrap_interval(values, "mean", seed=seed) if enough else None,
        float(np.median(values)),
        bootstrap_interval(values, "median", seed=seed) if enough else None,
    )


def _value(song: SongResult, measure: str, stem: str) -> float | None:
    values: Mapping[str, float | None] = (
        song.mdx_sdr_db if measure == MDX_SDR else {source: song.bss_eval_db(source) for source in SOURCES}
    )
    if stem != MEAN:
        return values[stem]
    there = [value for value in values.values() if value is not None]
    return fmean(there) if len(there) == len(SOURCES) else None
