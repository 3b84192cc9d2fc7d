"""Fitting blends: inner products tell all of an error, the best weights are found, songs left out are left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import soundfile
import torch
from torch import Tensor

from danna_sep.errors import Cancelled, ConfigError, SongsError
from danna_sep.evaluation import blend_weights
from danna_sep.evaluation.blend_fit import BlendReport, cross_validate, fit_blend, hear
from danna_sep.evaluation.estimates import Span, StemFolder, aligned, stem_folder
from danna_sep.evaluation.gram import Gram
from danna_sep.evaluation.metrics import mdx_sdr_db
from danna_sep.songs import Song, SongExcerpt, find_songs
from danna_sep.types import SOURCES

NAMES = ("a", "b", "c")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def gram_of(estimates: np.ndarray, reference: np.ndarray, song: str = "song", block: int | None = None) -> Gram:
    gram = Gram(song, "vocals", tuple("abcdefgh"[: len(estimates)]))
    block = block or reference.shape[-1]
    for start in range(0, reference.shape[-1], block):
        gram.add(estimates[..., start : start + block], reference[..., start : start + block])
    return gram


def random_grams(n_songs: int, n_separators: int = 3, seed: int = 0, spread: float = 1.0) -> list[Gram]:
    """Songs of different loudness, whose estimates are the reference and noise of different amounts."""
    grams = []
    for song in range(n_songs):
        rng = np.random.default_rng((seed, song))
        reference = 10 ** rng.uniform(-1, 1) * rng.standard_normal((2, 400))
        shared = rng.standard_normal((2, 400))
        estimates = np.stack(
            [
                rng.uniform(0.3, 1.2) * reference
                + spread * rng.uniform(0.2, 2) * np.abs(reference).mean() * (shared + rng.standard_normal((2, 400)))
                for _ in range(n_separators)
            ]
        )
        grams.append(gram_of(estimates, reference, f"song {song}"))
    return grams


def test_sdr_from_inner_products_is_that_of_the_signals() -> None:
    """Otherwise every figure of a fit would be about something else than the stems."""
    reference, estimates = noise(2, 5000), noise(3, 2, 5000, seed=1) * 0.3
    estimates += np.array([0.9, 0.5, 0.1])[:, None, None] * reference
    gram = gram_of(estimates, reference)
    for weights in ([1, 0, 0], [0.3, 0.3, 0.4], [-1, 2, 0.5], [0, 0, 0]):
        row = np.array(weights, float)
        blended = torch.from_numpy(np.tensordot(row, estimates, 1))
        expected = mdx_sdr_db(torch.from_numpy(reference)[None], blended[None])
        assert gram.sdr_db(row) == pytest.approx(expected.item(), abs=1e-9)


def test_sdr_of_a_perfect_blend_is_finite() -> None:
    reference = noise(2, 100)
    assert 80 < gram_of(reference[None], reference).sdr_db(np.ones(1)) < 200


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_blocks_do_not_matter(block: int) -> None:
    reference, estimates = noise(2, 1000), noise(3, 2, 1000, seed=1)
    whole, cut = gram_of(estimates, reference), gram_of(estimates, reference, block=block)
    assert np.allclose(whole.gram, cut.gram, rtol=1e-12)
    assert np.allclose(whole.cross, cut.cross, rtol=1e-11)
    assert whole.energy == pytest.approx(cut.energy, rel=1e-12)
    assert whole.n_values == cut.n_values == 2000


@pytest.mark.parametrize("objective", blend_weights.OBJECTIVES)
@pytest.mark.parametrize(
    ("constraint", "best"),
    [("non-negative", (0.3, 0.0, 0.5)), ("convex", (0.3, 0.0, 0.7)), ("free", (0.9, -0.4, 0.2))],
)
def test_known_weights_are_recovered(constraint: str, best: tuple[float, ...], objective: str) -> None:
    """Where a blend gives the stems exactly, that is the blend to be found."""
    grams = []
    for seed in range(3):
        estimates = noise(3, 2, 300, seed=seed)
        grams.append(gram_of(estimates, np.tensordot(np.array(best), estimates, 1)))
    assert np.allclose(blend_weights.fit(grams, constraint, objective), best, atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_non_negative_weights_agree_with_scipy(seed: int) -> None:
    rows, target = noise(6, 40, seed=seed), noise(40, seed=seed + 100)
    gram = gram_of(rows[:, None], target[None])
    expected, _ = scipy.optimize.nnls(rows.T, target)
    found = blend_weights.non_negative(gram.gram, gram.cross, gram.energy)
    assert np.allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("seed", range(20))
def test_convex_weights_meet_the_conditions_of_the_minimum(seed: int) -> None:
    """On the simplex, the slope is the same along all weights in use, and no less along the others."""
    gram = random_grams(1, 5, seed)[0]
    weights = blend_weights.convex(gram.gram, gram.cross, gram.energy)
    slope = gram.gram @ weights - gram.cross
    used = weights > 1e-9
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert np.ptp(slope[used]) < 1e-6 * gram.energy
    assert (slope[~used] >= slope[used].min() - 1e-6 * gram.energy).all()


@pytest.mark.parametrize("seed", range(5))
def test_free_weights_agree_with_least_squares(seed: int) -> None:
    rows, target = noise(4, 40, seed=seed), noise(40, seed=seed + 100)
    gram = gram_of(rows[:, None], target[None])
    expected = np.linalg.lstsq(rows.T, target, rcond=None)[0]
    assert np.allclose(blend_weights.free(gram.gram, gram.cross, gram.energy), expected, atol=1e-7)


@pytest.mark.parametrize("constraint", blend_weights.CONSTRAINTS)
def test_separators_that_are_alike_or_silent_do_no_harm(constraint: str) -> None:
    """The same separator given twice, and one that gives nothing, make the matrix singular."""
    reference = noise(2, 500)
    one = reference + 0.5 * noise(2, 500, seed=1)
    gram = gram_of(np.stack([one, one, np.zeros_like(one)]), reference)
    weights = blend_weights.fit([gram], constraint, "energy")
    assert np.isfinite(weights).all()
    assert weights[0] == pytest.approx(weights[1], abs=1e-4)
    alone = gram_of(one[None], reference)
    assert gram.sdr_db(weights) >= alone.sdr_db(blend_weights.fit([alone], constraint, "energy")) - 1e-6


@pytest.mark.parametrize("objective", blend_weights.OBJECTIVES)
@pytest.mark.parametrize("constraint", blend_weights.CONSTRAINTS)
@pytest.mark.parametrize("seed", range(10))
def test_never_worse_than_the_best_single(constraint: str, objective: str, seed: int) -> None:
    grams = random_grams(4, 4, seed, spread=3)
    fitted = blend_weights.fit(grams, constraint, objective)
    singles = [blend_weights.cost(grams, single, objective) for single in np.eye(4)]
    assert blend_weights.cost(grams, fitted, objective) <= min(singles)


@pytest.mark.parametrize("constraint", ["non-negative", "free"])
def test_each_objective_is_best_at_its_own(constraint: str) -> None:
    """Else the choice would be a name only."""
    grams = random_grams(5, 3, seed=3, spread=2)
    fits = {objective: blend_weights.fit(grams, constraint, objective) for objective in blend_weights.OBJECTIVES}
    for objective in blend_weights.OBJECTIVES:
        costs = {other: blend_weights.cost(grams, weights, objective) for other, weights in fits.items()}
        assert costs[objective] == min(costs.values())
        assert sorted(costs.values())[1] > costs[objective]


def test_the_best_mean_sdr_is_found() -> None:
    """No weights near those found, and none on a grid, are better: steps of 0.03 for two separators."""
    grams = random_grams(5, 2, seed=1, spread=2)
    found = blend_weights.cost(grams, blend_weights.fit(grams, "non-negative", "sdr"), "sdr")
    ticks = np.linspace(0, 1.5, 51)
    assert found <= min(blend_weights.cost(grams, np.array([a, b]), "sdr") for a in ticks for b in ticks) + 1e-6


def test_loudness_of_a_song_counts_for_energy_alone() -> None:
    """A song played a thousand times louder must leave the default fit alone, and pull the one by energy to itself."""
    grams = random_grams(3, 3, seed=5)
    louder = [*grams[:2], Gram("loud", "vocals", grams[2].names)]
    louder[2].gram, louder[2].cross = 1e6 * grams[2].gram, 1e6 * grams[2].cross
    louder[2].energy, louder[2].n_values = 1e6 * grams[2].energy, grams[2].n_values
    for objective in ("sdr", "songs"):
        same = [blend_weights.fit(each, "free", objective) for each in (grams, louder)]
        assert np.allclose(*same, atol=1e-5), objective
    alone = blend_weights.fit([grams[2]], "free", "energy")
    before, after = (np.abs(blend_weights.fit(each, "free", "energy") - alone).max() for each in (grams, louder))
    assert after < 0.01 * before


def test_cross_validation_leaves_the_song_out() -> None:
    """A song that alone would be fitted perfectly, by weights of no use elsewhere, must not be in its own score."""
    grams = random_grams(4, 2, seed=2, spread=0.3)
    estimates = noise(2, 2, 400, seed=9)
    odd = gram_of(estimates, estimates[0] - estimates[1], "odd")
    assert odd.sdr_db(blend_weights.fit([odd], "free")) > 60
    scores = cross_validate([*grams, odd], "free")
    assert scores[4] == pytest.approx(odd.sdr_db(blend_weights.fit(grams, "free")), abs=1e-9)
    assert scores[4] < 10
    without_first = blend_weights.fit([*grams[1:], odd], "free")
    assert scores[0] == pytest.approx(grams[0].sdr_db(without_first), abs=1e-9)


def test_folds_leave_out_all_of_their_songs() -> None:
    grams = random_grams(5)
    scores = cross_validate(grams, folds=2)
    assert scores[0] == pytest.approx(grams[0].sdr_db(blend_weights.fit([grams[1], grams[3]])))
    assert scores[3] == pytest.approx(grams[3].sdr_db(blend_weights.fit([grams[0], grams[2], grams[4]])))


def test_what_is_refused() -> None:
    grams = random_grams(2)
    for arguments in (
        {"constraint": "some"},
        {"objective": "some"},
        {"folds": 1},
        {"given": {"x": {"zz": {"drums": 1}}}},
    ):
        with pytest.raises(ConfigError):
            fit_blend(grams, **arguments)
    with pytest.raises(ConfigError, match="called 'a'"):
        fit_blend(grams, given={"a": {}})
    with pytest.raises(ConfigError, match="no songs"):
        blend_weights.fit([])


class Shares:
    """Each stem is a share of the mixture, and the mixture delayed by a number of samples of its own."""

    sample_rate = 44100

    def __init__(self, *shares: float, sources: tuple[str, ...] = SOURCES) -> None:
        self.sources, self.shares = sources, shares

    def __call__(self, mixture: Tensor) -> Tensor:
        return torch.stack([share * mixture.roll(7 * place, -1) for place, share in enumerate(self.shares)], -3)


def write_song(folder: Path, seed: int, sources: tuple[str, ...] = SOURCES, n_frames: int = 60000) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    stems = (0.1 * noise(4, 2, n_frames, seed=seed)).astype(np.float32)
    for source, stem in zip(SOURCES, stems, strict=True):
        if source in sources:
            soundfile.write(folder / f"{source}.wav", stem.T, 44100, subtype="FLOAT")
    return stems


@pytest.fixture
def songs_folder(tmp_path: Path) -> Path:
    for seed in range(3):
        write_song(tmp_path / "songs" / f"song {seed}", seed)
    return tmp_path / "songs"


def test_songs_are_heard_as_they_are_separated(songs_folder: Path) -> None:
    """What comes of the streamed pass must be what the separated stems give by themselves."""
    separator = Shares(0.1, 0.2, 0.3, 0.4)
    two = Shares(0.7, 0.1, sources=("vocals", "accompaniment"))
    heard: list[tuple[str, float, float]] = []
    songs = find_songs(songs_folder)
    grams = hear({"four": separator, "two": two}, songs, progress=lambda *each: heard.append(each))
    assert [(gram.song, gram.source) for gram in grams] == [(s.name, source) for s in songs for source in SOURCES]
    gram = grams[3]
    assert gram.names == ("four", "two")
    assert grams[0].names == ("four",)
    excerpt = songs[0].read()
    mixture = torch.from_numpy(excerpt.mixture)
    estimates = torch.stack([separator(mixture)[3], two(mixture)[0]]).numpy()
    expected = gram_of(estimates, excerpt.stems[3])
    assert np.allclose(gram.gram, expected.gram, rtol=1e-9)
    assert np.allclose(gram.cross, expected.cross, rtol=1e-7)
    assert heard[-1][1:] == pytest.approx((180000 / 44100, 180000 / 44100))


def test_sources_that_are_not_annotated_do_not_count(tmp_path: Path) -> None:
    """A stem that nobody wrote down is unknown, not silent: nothing must be fitted to zeros."""
    write_song(tmp_path / "full", 0)
    stems = write_song(tmp_path / "no bass", 1, ("drums", "vocals"))
    soundfile.write(tmp_path / "no bass" / "mixture.wav", stems.sum(0).T, 44100, subtype="FLOAT")
    grams = hear({"a": Shares(1, 1, 1, 1)}, find_songs(tmp_path))
    assert [gram.source for gram in grams if gram.song == "no bass"] == ["drums", "vocals"]
    report = fit_blend(grams)
    assert report.fits["bass"].songs == ("full",)
    assert report.fits["drums"].songs == ("full", "no bass")
    assert "cross-validated" not in report.fits["bass"].sdr_db


def test_what_separators_hear_is_a_song(songs_folder: Path, tmp_path: Path) -> None:
    """Some of the stems are none, and nothing is separated before that is said; finished stems need no mixture."""

    class Heard(Shares):
        def __call__(self, mixture: Tensor) -> Tensor:
            raise AssertionError("heard")

    write_song(songs_folder / "a song less", 3, ("drums", "vocals"))
    songs = find_songs(songs_folder)
    finished = stem_folder(songs_folder)
    with pytest.raises(SongsError, match="a song less: bass, other not annotated and no mixture file"):
        hear({"a": Heard(1, 1, 1, 1), "finished": finished}, songs)
    assert len(hear({"finished": finished}, songs)) == 2 + 3 * 4


def test_silent_stems_are_named_and_not_counted(tmp_path: Path) -> None:
    """A ratio to silence tells nothing, and one over it would rule the fit."""
    for name in ("a", "b"):
        write_song(tmp_path / name, 0)
    soundfile.write(tmp_path / "b" / "vocals.wav", np.zeros((60000, 2)), 44100)
    fit = fit_blend(hear({"a": Shares(1, 1, 1, 1)}, find_songs(tmp_path))).fits["vocals"]
    assert (fit.songs, fit.silent) == (("a",), ("b",))


@pytest.mark.parametrize(("place", "start"), [("start", 0), ("middle", 7950)])
def test_excerpts(songs_folder: Path, place: str, start: int) -> None:
    span = Span(1.0, place)
    song = find_songs(songs_folder)[0]
    if place == "middle":
        assert span.of(song) == ((60000 - 44100) // 2, 44100)
    grams = hear({"a": Shares(1, 1, 1, 1)}, [song], span)
    stems = song.read(start, 44100).stems
    assert grams[0].n_values == 88200
    assert grams[2].energy == pytest.approx((stems[2].astype(float) ** 2).sum())
    assert Span(100.0).of(song) == (0, 60000)


def test_finished_stems_take_part(songs_folder: Path, tmp_path: Path) -> None:
    """Stems of any other program, in folders, are blended with separators; those that are right get all the weight."""
    songs = find_songs(songs_folder)
    for song in songs:
        folder = tmp_path / "finished" / song.name
        folder.mkdir(parents=True)
        stems = song.read().stems
        for place, source in ((0, "drums"), (3, "vocals")):
            longer = np.pad(stems[place], ((0, 0), (0, 500)))
            soundfile.write(folder / f"{source}.wav", longer.T, 44100, subtype="FLOAT")
    estimators = {"finished": stem_folder(tmp_path / "finished"), "mixture": Shares(1, 1, 1, 1)}
    report = fit_blend(hear(estimators, songs))
    assert report.fits["drums"].weights == pytest.approx({"finished": 1, "mixture": 0}, abs=1e-4)
    assert report.fits["vocals"].weights == pytest.approx({"finished": 1, "mixture": 0}, abs=1e-4)
    assert set(report.fits["bass"].weights) == {"mixture"}
    assert report.blend["finished"].keys() == {"drums", "vocals"}
    excerpts = hear(estimators, songs, Span(1.0))
    assert fit_blend(excerpts).fits["drums"].weights == pytest.approx({"finished": 1, "mixture": 0}, abs=1e-4)


def test_finished_stems_must_fit_the_songs(songs_folder: Path, tmp_path: Path) -> None:
    """Stems of another song, a missing one, or one that was cut would quietly spoil the fit."""
    songs = find_songs(songs_folder)

    def refuse(match: str) -> None:
        with pytest.raises(SongsError, match=match):
            hear({"finished": stem_folder(tmp_path / "finished")}, songs)

    for song in songs[:2]:
        write_song(tmp_path / "finished" / song.name, 0)
    refuse("no stems of 'song 2'")
    write_song(tmp_path / "finished" / "song 2", 0, n_frames=50000)
    refuse("50000 frames long, the song 60000")
    write_song(tmp_path / "finished" / "song 2", 0)
    (tmp_path / "finished" / "song 1" / "bass.wav").unlink()
    refuse("no bass of 'song 1'")


def test_blocks_of_song_and_estimates_keep_step(songs_folder: Path) -> None:
    song = find_songs(songs_folder)[0]
    parts = list(aligned(song, {"a": Shares(1, 1, 1, 1)}, block_frames=7000))
    assert [excerpt.mixture.shape[-1] for excerpt, _ in parts] == [*[7000] * 8, 4000]
    for excerpt, estimates in parts:
        assert np.array_equal(estimates["a"][0], excerpt.mixture)


def test_no_more_is_read_than_the_segments_need(tmp_path: Path) -> None:
    """A song is decoded once for all, and what one has not used yet must not pile up behind another: memory is flat."""

    class Counted(Song):
        n_read = 0

        def blocks(self, n_frames: int) -> Iterator[SongExcerpt]:
            for excerpt in super().blocks(n_frames):
                Counted.n_read += excerpt.mixture.shape[-1]
                yield excerpt

    write_song(tmp_path / "long", 0, n_frames=2_000_000)
    (found,) = find_songs(tmp_path)
    song = Counted(found.name, found.files)
    estimators = {"a": Shares(1, 1, 1, 1), "b": Shares(2, 2, 2, 2), "folder": StemFolder(tmp_path, {"long": found})}
    n_given, most_ahead = 0, 0
    for excerpt, _ in aligned(song, estimators, block_frames=10_000):
        n_given += excerpt.mixture.shape[-1]
        most_ahead = max(most_ahead, Counted.n_read - n_given)
    assert n_given == Counted.n_read == 2_000_000
    assert most_ahead < 2 * 384 * 1024


def test_estimates_that_are_not_finite_are_refused(songs_folder: Path) -> None:
    """Or a single sample would make every weight NaN."""
    estimators = {"good": Shares(1, 1, 1, 1), "bad": Shares(1, float("nan"), 1, 1)}
    with pytest.raises(ConfigError, match="bad gave NaN or infinite samples for bass of 'song 0'"):
        hear(estimators, find_songs(songs_folder))


def test_hearing_stops_when_asked(songs_folder: Path) -> None:
    with pytest.raises(Cancelled):
        hear({"a": Shares(1, 1, 1, 1)}, find_songs(songs_folder), cancelled=lambda: True)


def test_a_report_has_given_weights_too() -> None:
    grams = random_grams(3)
    given = {"paper": {"a": {"vocals": 0.5}, "b": {"vocals": 0.5, "drums": 1}, "unheard": {"vocals": 0, "drums": 0}}}
    report = fit_blend(grams, given=given)
    assert isinstance(report, BlendReport)
    fit = report.fits["vocals"]
    assert list(fit.sdr_db) == ["a", "b", "c", "paper", "fitted", "cross-validated"]
    assert fit.song_sdr_db["paper"][1] == pytest.approx(grams[1].sdr_db(np.array([0.5, 0.5, 0])))
    assert fit.sdr_db["b"] == pytest.approx(np.mean(fit.song_sdr_db["b"]))
    assert fit.sdr_db["fitted"] >= max(fit.sdr_db[name] for name in NAMES)
    assert fit.sdr_db["fitted"] >= fit.sdr_db["cross-validated"]
