"""Differences of two evaluations, and how sure they are."""

from __future__ import annotations

import numpy as np
import pytest

from danna_sep import SOURCES
from danna_sep.errors import EvaluationError
from danna_sep.evaluation.compare import BSS_SDR, MDX_SDR, MIN_SONGS, Comparison, bootstrap_interval, compare
from danna_sep.evaluation.results import MEASURES, Results, SongResult


def song(name: str, sdr: float | None, n_frames: int = 44100, **others: float | None) -> SongResult:
    mdx = {source: others.get(source, sdr) for source in SOURCES}
    windows = {source: dict.fromkeys(MEASURES, (value, None)) for source, value in mdx.items()}
    return SongResult(name, None, n_frames, SOURCES, mdx, windows)


def results(values: list[float], **others: float | None) -> Results:
    return Results({}, {}, [song(f"song {place}", value, **others) for place, value in enumerate(values)])


def row(comparison: Comparison, stem: str, measure: str = BSS_SDR):
    (found,) = (each for each in comparison.differences if (each.measure, each.stem) == (measure, stem))
    return found


def test_what_is_the_same_for_every_song_is_certain() -> None:
    """Songs differ by 30 dB; a system that is better by 1 dB on each is better, and the interval must say so."""
    values = list(np.linspace(-10, 20, 8))
    compared = compare(results(values), results([value + 1 for value in values]))
    for measure in (BSS_SDR, MDX_SDR):
        for stem in (*SOURCES, "mean"):
            found = row(compared, stem, measure)
            assert found.n_songs == 8
            assert found.mean == pytest.approx(1)
            assert found.median == pytest.approx(1)
            assert found.mean_interval == pytest.approx((1, 1))
            assert found.median_interval == pytest.approx((1, 1))


def test_interval_of_known_differences() -> None:
    """Of many normal differences, the bootstrap's interval is the closed form's."""
    values = np.random.default_rng(0).normal(0.5, 2, 400)
    low, high = bootstrap_interval(values, "mean")
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    low, high = bootstrap_interval(values, "median")
    half *= np.sqrt(np.pi / 2)
    assert low < np.median(values) < high
    assert high - low == pytest.approx(2 * half, rel=0.25)


def test_interval_covers_what_it_should() -> None:
    """95 % means that about 19 of 20 intervals hold the truth; a tail too many would be seen here."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        low, high = bootstrap_interval(rng.normal(0, 1, 50), "mean", n_resamples=500)
        covered += low <= 0 <= high
    assert 0.91 < covered / 400 < 0.98


def test_order_and_repetition() -> None:
    """The other way round the signs change; the same again gives the same to the last digit."""
    first = results(list(np.random.default_rng(0).normal(5, 3, 9)))
    second = results(list(np.random.default_rng(1).normal(6, 3, 9)))
    forth, back = compare(first, second), compare(second, first)
    assert forth == compare(first, second)
    for a, b in zip(forth.differences, back.differences, strict=True):
        assert a.mean == pytest.approx(-b.mean)
        assert a.mean_interval == pytest.approx((-b.mean_interval[1], -b.mean_interval[0]))


def test_only_shared_songs_and_values_count() -> None:
    """A song that only one system was measured on, or a source that it lacks, must not move the difference."""
    first, second = results([1.0] * 7), results([3.0] * 8)
    second = Results({}, {}, [*second.songs[1:], song("song 0", 3.0, bass=None)])
    compared = compare(first, second)
    assert len(compared.songs) == 7
    assert compared.left_out == ("song 7",)
    assert row(compared, "bass").n_songs == row(compared, "mean").n_songs == 6
    assert row(compared, "drums").n_songs == 7
    assert row(compared, "bass").mean == pytest.approx(2)


def test_too_few_songs_have_no_interval() -> None:
    few = results([1.0] * (MIN_SONGS - 1))
    found = row(compare(few, few), "drums")
    assert (found.n_songs, found.mean, found.mean_interval, found.median_interval) == (MIN_SONGS - 1, 0, None, None)
    none = results([1.0], drums=None)
    assert row(compare(none, none), "drums").mean is None


def test_without_bss_eval() -> None:
    """One evaluation with --only-mdx can be compared by the other measure."""
    fast = Results({}, {}, [SongResult("song 0", None, 44100, SOURCES, dict.fromkeys(SOURCES, 1.0))])
    assert {found.measure for found in compare(results([2.0]), fast).differences} == {MDX_SDR}


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(EvaluationError, match="share no song"):
        compare(results([1.0]), Results({}, {}, [song("another", 1.0)]))
    with pytest.raises(EvaluationError, match=r"song 0: not the same song.*1\.0 s.*2\.0 s"):
        compare(results([1.0]), results([1.0], n_frames=88200))
