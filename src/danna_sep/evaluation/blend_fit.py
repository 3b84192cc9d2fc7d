"""Weights for a blend of any separators, fitted on songs with stems, and how good they are on songs they never saw.

    from danna_sep import load
    from danna_sep.evaluation.blend_fit import fit_blend, hear
    from danna_sep.songs import find_songs

    grams = hear({"danna": load("danna"), "mine": MySeparator()}, find_songs("musdb18hq", "valid"))
    report = fit_blend(grams, constraint="convex")

Every song is heard once (`hear`); all fits, constraints and cross-validations are then arithmetic on small matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from danna_sep.errors import ConfigError, SongsError
from danna_sep.evaluation import blend_weights
from danna_sep.evaluation.estimates import WHOLE, Estimator, Span, StemFolder, aligned, check_stems, narrowed
from danna_sep.evaluation.gram import Gram
from danna_sep.songs import Song
from danna_sep.types import SAMPLE_RATE, SOURCES

FITTED = "fitted"
VALIDATED = "cross-validated"


@dataclass(frozen=True)
class SourceFit:
    """What was found for one source.

    Attributes:
        source: Which.
        weights: Per separator that has it.
        song_sdr_db: Signal-to-distortion ratio of each of `songs`, dB: of each separator alone, of each given row of
            weights, of the `fitted` ones, and `cross-validated`: of each song with weights fitted without it; the
            last is missing where there is one song.
        songs: What was counted.
        silent: Songs that were not, for the reference lies below -60 dB in them.
    """

    source: str
    weights: Mapping[str, float]
    song_sdr_db: Mapping[str, tuple[float, ...]]
    songs: tuple[str, ...]
    silent: tuple[str, ...]

    @property
    def sdr_db(self) -> dict[str, float]:
        """Means over the songs."""
        return {label: float(np.mean(values)) for label, values in self.song_sdr_db.items()}


@dataclass(frozen=True)
class BlendReport:
    """What was found.

    Attributes:
        separators: Their names.
        constraint: On the weights.
        objective: What was minimised.
        fits: For each source that could be fitted, in the order of SOURCES.
    """

    separators: tuple[str, ...]
    constraint: str
    objective: str
    fits: Mapping[str, SourceFit]

    @property
    def blend(self) -> dict[str, dict[str, float]]:
        """The fitted weights by separator and source, as a preset file has them."""
        return {
            name: {source: fit.weights[name] for source, fit in self.fits.items() if name in fit.weights}
            for name in self.separators
        }


def hear(
    estimators: Mapping[str, Estimator],
    songs: Sequence[Song],
    span: Span = WHOLE,
    *,
    progress: Callable[[str, float, float], object] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Gram]:
    """Separate every song once, with all separators in step, and keep the inner products.

    Memory holds a few segments, whatever the length of the songs; all of one where a separator hears whole tracks.

    Args:
        estimators: By name: separators, or folders of finished stems.
        songs: With stems; what is not annotated does not count.
        span: Which part of each song.
        progress: Called with a song's name, and seconds done and in all, of all songs.
        cancelled: Asked before every segment.

    Returns:
        One for each song and annotated source that any of the estimators has.

    Raises:
        SongsError: Stems that are missing from a folder of finished ones, or songs without a mixture to separate.
        ConfigError: A span out of range, nothing to separate with, or estimates that are not finite.
        Cancelled: When `cancelled` said so.
    """
    if span.length_s is not None and not 1 <= span.length_s <= 36000:
        raise ConfigError(f"an excerpt must be from 1 to 36000 s, not {span.length_s:g}")
    if span.place not in ("start", "middle"):
        raise ConfigError(f"an excerpt is taken from the start or the middle, not {span.place!r}")
    if not estimators:
        raise ConfigError("no separators to blend")
    check_stems(estimators, songs)
    if not all(isinstance(estimator, StemFolder) for estimator in estimators.values()):
        for song in songs:
            song.check_mixture()
    annotated = {source for song in songs for source in song.annotated}
    estimators = {name: narrowed(estimator, sorted(annotated)) for name, estimator in estimators.items()}
    total_s = sum(span.of(song)[1] for song in songs) / SAMPLE_RATE
    done_s = 0.0
    grams: list[Gram] = []
    for song in songs:
        rows = {
            source: Gram(song.name, source, names)
            for source in song.annotated
            if (names := tuple(name for name, estimator in estimators.items() if source in estimator.sources))
        }
        for excerpt, estimates in aligned(song, estimators, span, cancelled=cancelled):
            for source, gram in rows.items():
                stems = [estimates[name][estimators[name].sources.index(source)] for name in gram.names]
                gram.add(np.stack(stems), excerpt.stems[SOURCES.index(source)])
            done_s += excerpt.mixture.shape[-1] / SAMPLE_RATE
            if progress:
                progress(song.name, done_s, total_s)
        for gram in rows.values():
            _check_finite(gram)
        grams += rows.values()
    return grams


def _check_finite(gram: Gram) -> None:
    if not np.isfinite(gram.energy):
        raise SongsError(f"{gram.song}: its {gram.source} has NaN or infinite samples")
    for name, energy in zip(gram.names, np.diag(gram.gram), strict=True):
        if not np.isfinite(energy):
            raise ConfigError(f"{name} gave NaN or infinite samples for {gram.source} of {gram.song!r}")


def fit_blend(
    grams: Sequence[Gram],
    constraint: str = "non-negative",
    objective: str = "sdr",
    *,
    given: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    folds: int | None = None,
) -> BlendReport:
    """The best weights, source by source, and how good they are.

    "sdr", the default, maximises the mean over songs of the ratio in dB, which is what the challenges score and what is
    reported. "songs" minimises the mean of error over energy: there the songs that separate worst decide. "energy"
    minimises the plain squared error: there the loudest songs decide. With one song all three agree.

    Args:
        grams: As `hear` gives them.
        constraint: "non-negative", "convex" (they sum to one as well) or "free".
        objective: "sdr", "songs" or "energy".
        given: Other weights to report on, by label, separator and source; 0 where there is none.
        folds: Parts that the songs are dealt into for the cross-validation; None leaves out one song at a time.

    Raises:
        ConfigError: No such constraint or objective, too few folds, or given weights of unknown separators.
    """
    names = tuple(dict.fromkeys(name for gram in grams for name in gram.names))
    if folds is not None and folds < 2:
        raise ConfigError(f"a cross-validation needs at least 2 folds, not {folds}")
    check_names(names, given or {})
    fits = {}
    for source in SOURCES:
        own = [gram for gram in grams if gram.source == source]
        loud = [gram for gram in own if not gram.silent]
        if not loud:
            continue
        order = loud[0].names
        weights = blend_weights.fit(loud, constraint, objective)
        rows = dict(zip(order, np.eye(len(order)), strict=True))
        for label, given_rows in (given or {}).items():
            rows[label] = np.array([given_rows.get(name, {}).get(source, 0.0) for name in order])
        rows[FITTED] = weights
        song_sdr_db = {label: tuple(gram.sdr_db(row) for gram in loud) for label, row in rows.items()}
        if len(loud) > 1:
            song_sdr_db[VALIDATED] = tuple(cross_validate(loud, constraint, objective, folds))
        fits[source] = SourceFit(
            source,
            dict(zip(order, weights.tolist(), strict=True)),
            song_sdr_db,
            tuple(gram.song for gram in loud),
            tuple(gram.song for gram in own if gram.silent),
        )
    return BlendReport(names, constraint, objective, fits)


def check_names(names: Sequence[str], given: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Raise ConfigError where rows of a report would have one name, or given weights are for unknown separators.

    Separators whose given weights are all 0 need not be known.
    """
    for label in (FITTED, VALIDATED, *given):
        if label in names:
            raise ConfigError(f"a separator is called {label!r} as another row of the report is; rename one of them")
    for label, rows in given.items():
        if unknown := sorted({name for name, row in rows.items() if any(row.values())} - set(names)):
            raise ConfigError(f"{label}: has weights for {unknown[0]}, which is not among {', '.join(names)}")


def cross_validate(
    grams: Sequence[Gram], constraint: str = "non-negative", objective: str = "sdr", folds: int | None = None
) -> list[float]:
    """SDR of each song, dB, with weights that were fitted without it.

    Args:
        grams: One a song, at least two, of one source, none silent.
        constraint: See `fit_blend`.
        objective: Likewise.
        folds: Parts that the songs are dealt into in turn; None for as many as songs.
    """
    n_folds = min(len(grams), folds or len(grams))
    scores = []
    for index, gram in enumerate(grams):
        others = [other for place, other in enumerate(grams) if place % n_folds != index % n_folds]
        scores.append(gram.sdr_db(blend_weights.fit(others, constraint, objective)))
    return scores
