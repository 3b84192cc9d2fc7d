"""Songs of the synthetic band: the same for the same number, coherent, within full scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from danna_sep.errors import Cancelled
from danna_sep.training.synthesis import bass, mastering, song
from danna_sep.training.synthesis.grooves import Hit
from danna_sep.training.synthesis.harmony import Note
from danna_sep.training.synthesis.plan import Plan
from danna_sep.training.synthesis.recordings import Recordings
from danna_sep.training.synthesis.song import Song, length_of, make_song, produce
from danna_sep.training.synthesis.soundfonts import Soundfonts
from danna_sep.training.synthesis.studio import Studio
from danna_sep.types import SOURCES
from made_up_recordings import RATE_HZ, write_recordings

LENGTH_S = (9.0, 14.0)
SEED = 11
N_SONGS = 6


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    folder = write_recordings(tmp_path_factory.mktemp("recordings"))
    return Studio(Recordings(folder, sonic_pi=folder / "none"), Soundfonts(()))


@pytest.fixture(scope="module")
def songs(studio: Studio) -> list[Song]:
    """Six songs; sung by a plain tone, so that these tests are not about voices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(song, "_vocals", _hum)
        return [produce(studio, SEED, index, LENGTH_S) for index in range(N_SONGS)]


def _hum(recordings: Recordings, plan: Plan, rng: np.random.Generator, n_samples: int) -> np.ndarray:
    recordings.load(recordings.files("voices/yuki/*")[0])
    hz = 220 * 2 ** (rng.integers(12) / 12)
    return (0.1 * np.sin(2 * np.pi * hz * np.arange(n_samples) / RATE_HZ) * np.ones((2, 1))).astype(np.float32)


def test_stems_are_whole(songs: list[Song]) -> None:
    for index, made in enumerate(songs):
        assert tuple(made.stems) == SOURCES
        n_samples = round(length_of(SEED, index, LENGTH_S) * RATE_HZ)
        for stem in made.stems.values():
            assert stem.shape == (2, n_samples)
            assert stem.dtype == np.float32
            assert np.isfinite(stem).all()
            assert np.abs(stem).max() <= 0.98
        assert 0.3 < np.abs(mastering.total(made.stems)).max() <= 0.98


def test_who_plays_is_heard_and_who_does_not_is_silent(songs: list[Song]) -> None:
    """Silent from two seconds after a section that plays to just before the next one."""
    n_silent = 0
    for made in songs:
        for source, stem in made.stems.items():
            spans = made.plan.spans(source)
            for start_s, end_s in spans:
                if end_s - start_s > 2:
                    assert np.abs(stem[:, int(start_s * RATE_HZ) : int(end_s * RATE_HZ)]).max() > 1e-3, source
            outside = np.ones(stem.shape[1], bool)
            for start_s, end_s in spans:
                outside[int(max(0.0, start_s - 0.06) * RATE_HZ) : int((end_s + 2.01) * RATE_HZ)] = False
            n_silent += int(outside.sum())
            assert (stem[:, outside] == 0).all()
    assert n_silent


def test_the_same_song_whatever_was_made_before(
    studio: Studio, songs: list[Song], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(song, "_vocals", _hum)
    for index in (5, 2):
        again = make_song(studio, SEED, index, LENGTH_S)
        for source in SOURCES:
            np.testing.assert_array_equal(again[source], songs[index].stems[source])


def test_songs_differ(songs: list[Song]) -> None:
    assert len({(made.plan.beat_s, made.plan.chords[0].root) for made in songs}) == N_SONGS
    assert length_of(1, 0, LENGTH_S) != length_of(2, 0, LENGTH_S)


def test_credits_name_what_was_used(songs: list[Song]) -> None:
    for made in songs:
        banks = {origin.bank for origin in made.credits}
        assert ("Imagawa Yuki voice bank" in banks) == bool(made.plan.spans("vocals"))
        assert [origin.bank for origin in made.credits] == sorted(banks)


def test_without_any_files() -> None:
    """Computed instruments only; nobody sings."""
    for index in range(3):
        made = produce(Studio(), SEED, index, (6.0, 8.0))
        assert made.credits == ()
        assert (made.stems["vocals"] == 0).all()
        for source in ("drums", "bass", "other"):
            assert bool(made.plan.spans(source)) == bool(np.abs(made.stems[source]).max() > 0)
        assert np.abs(mastering.total(made.stems)).max() <= 0.98


def test_low_notes_are_the_basss(songs: list[Song]) -> None:
    """Most of a bass stem's energy lies below 300 Hz."""
    for made in songs:
        stem = made.stems["bass"]
        if stem.any():
            power = np.abs(np.fft.rfft(stem.mean(0))) ** 2
            hz = np.fft.rfftfreq(stem.shape[1], 1 / RATE_HZ)
            assert power[hz < 300].sum() > 0.5 * power.sum()


def test_a_song_can_be_cancelled(studio: Studio) -> None:
    with pytest.raises(Cancelled):
        produce(studio, SEED, 0, LENGTH_S, lambda: True)


def test_real_voices_sing(studio: Studio) -> None:
    """The way from a plan to `voices.vocal` and back, once, with the made-up voices."""
    made = next(made for made in (produce(studio, SEED, i, (5.0, 6.0)) for i in range(9)) if made.plan.spans("vocals"))
    assert np.isfinite(made.stems["vocals"]).all()
    assert np.abs(made.stems["vocals"]).max() > 1e-3


def test_folder_is_not_written_to(studio: Studio) -> None:
    assert studio.recordings is not None
    folder: Path = studio.recordings.folder
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    make_song(studio, SEED, 1, (4.0, 4.5))
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before


def test_basses_of_machines_often_make_room_for_the_bass_drum() -> None:
    """Without a machine they seldom do; without a bass drum, never."""
    notes = [Note(0.5 * i, 0.4, 36 + i, 0.8) for i in range(4)]
    for seed in range(6):
        played = bass.play(Studio(None, Soundfonts(())), np.random.default_rng(seed), notes, True, 3 * RATE_HZ)
        assert played.shape == (2, 3 * RATE_HZ)
        assert np.isfinite(played).all()
        assert mastering.level_db(played, [(0.0, 2.0)]) > -40
    steady = np.ones((2, RATE_HZ), np.float32)

    def n_ducked(hits: list[Hit], electronic: bool) -> int:
        made = (song._pumped(steady, hits, np.random.default_rng(seed), electronic) for seed in range(100))
        return sum(float(sound.min()) < 0.6 for sound in made)

    kick = [Hit(0.5, "kick", 1.0)]
    assert n_ducked(kick, True) == pytest.approx(100 * song._PUMPED[True], abs=15)
    assert n_ducked(kick, False) == pytest.approx(100 * song._PUMPED[False], abs=6)
    assert n_ducked([Hit(0.5, "snare", 1.0)], True) == 0
