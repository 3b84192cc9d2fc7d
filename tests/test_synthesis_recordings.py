"""Recordings: only those whose licences let them train weights, and what they ask for in return."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from danna_sep import audio
from danna_sep.errors import SongsError
from danna_sep.training.synthesis import origins, recordings, sampler, soundfonts
from danna_sep.training.synthesis.harmony import Note
from danna_sep.training.synthesis.kits import build_kit, hits
from danna_sep.training.synthesis.recordings import Recordings
from danna_sep.training.synthesis.sampler import Bank, Sampler, midi_of
from danna_sep.training.synthesis.soundfonts import Soundfonts
from danna_sep.training.synthesis.studio import open_studio
from made_up_recordings import FORBIDDEN, RATE_HZ, write_recordings

FREE = ("CC0", "public-domain", "MIT", "BSD", "CC BY 3.0", "CC BY 4.0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("recordings"))


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_every_origin_is_free_and_says_whom_to_credit() -> None:
    assert len(origins.recorded()) > 10
    for origin in origins.recorded():
        assert origin.licence.startswith(FREE)
        assert origin.attribution
        assert origin.where
        assert not any(word in origin.licence for word in ("GPL", "SA", "NC"))
    for name in origins.known_soundfonts():
        assert origins.of_soundfont(Path("/anywhere") / name).licence.startswith("MIT")
    assert origins.of_soundfont(Path("mine.sf2")).licence == "unknown"


def test_what_may_not_train_weights_is_never_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not listed by the widest pattern, refused by name, and no file but those listed reaches the decoder."""
    opened: list[Path] = []

    class Watching(audio.AudioReader):
        def __init__(self, path: Any, **options: Any) -> None:
            opened.append(Path(path))
            super().__init__(path, **options)

    monkeypatch.setattr(audio, "AudioReader", Watching)
    found = Recordings(folder, sonic_pi=folder / "none", spoken_by=())
    forbidden = [folder / place for place in FORBIDDEN]
    listed = {path for depth in range(1, 6) for path in found.files("/".join("*" * depth))}
    assert listed
    assert not listed & set(forbidden)
    for place, path in zip(FORBIDDEN, forbidden, strict=True):
        assert path.is_file()
        assert found.files(place) == ()
        with pytest.raises(SongsError, match="not a recording that is known to be free"):
            found.load(path)
    for path in listed:
        found.load(path)
    assert set(opened) == listed


def test_what_was_used_is_known_even_when_remembered(folder: Path) -> None:
    found = Recordings(folder)
    (path,) = found.files("voices/yuki/ka")
    assert found.used == set()
    for _ in range(2):
        found.load(path)
        assert {origin.bank for origin in found.used} == {"Imagawa Yuki voice bank"}
        found.used.clear()


def test_recordings_come_at_our_rate_without_mean(tmp_path: Path) -> None:
    path = tmp_path / "voices" / "yuki" / "a.flac"
    path.parent.mkdir(parents=True)
    t = np.arange(24000) / 24000
    soundfile.write(path, 0.3 + 0.2 * np.sin(2 * np.pi * 440 * t), 24000)
    found = Recordings(tmp_path)
    sound = found.load(path)
    assert sound.shape == (1, RATE_HZ)
    assert sound.dtype == np.float32
    assert abs(float(sound.mean())) < 0.01
    assert np.abs(np.fft.rfft(sound[0])).argmax() == 440
    assert found.load(path) is sound
    with pytest.raises(ValueError, match="read-only"):
        sound[0, 0] = 1


def test_little_is_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "_KEPT_BYTES", 400_000)
    found = Recordings(folder)
    paths = found.files("instruments/bass/*/*")
    first = found.load(paths[0]).copy()
    for path in paths:
        found.load(path)
    np.testing.assert_array_equal(found.load(paths[0]), first)
    assert sum(sound.nbytes for sound in found._shelf.values()) <= 400_000


def test_what_is_missing_is_said(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(SongsError, match="no such folder"):
        Recordings(tmp_path / "nowhere")
    (tmp_path / "voices" / "alys").mkdir(parents=True)
    (tmp_path / "voices" / "alys" / "a.wav").write_bytes((folder / "voices/yuki/a.wav").read_bytes())
    with pytest.raises(SongsError, match="known to be free"):
        Recordings(tmp_path)
    nested = tmp_path / "instruments" / "voices" / "yuki"
    nested.mkdir(parents=True)
    (nested / "a.wav").write_bytes((folder / "voices/yuki/a.wav").read_bytes())
    with pytest.raises(SongsError, match="known to be free"):
        Recordings(tmp_path)
    only_bass = tmp_path / "instruments" / "bass" / "pastabass_muted"
    only_bass.mkdir(parents=True)
    (only_bass / "c2.wav").write_bytes((folder / "voices/yuki/a.wav").read_bytes())
    Recordings(tmp_path)
    with pytest.raises(SongsError, match="no voices"):
        open_studio(tmp_path, ())


def test_sonic_pi_samples_only_by_name(folder: Path, tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    for name in ("bd_haus", "vinyl_hiss", "loop_amen", "tabla_na_s"):
        (samples / f"{name}.wav").write_bytes((folder / "voices/yuki/a.wav").read_bytes())
    found = Recordings(folder, sonic_pi=samples)
    assert [path.stem for path in found.files("sonic-pi/*")] == ["bd_haus", "tabla_na_s"]


@pytest.mark.parametrize(
    ("name", "midi"),
    [("c4_vl1", 60), ("Rhodes_A3", 57), ("e_2v1", None), ("gs3_f", 56), ("x_Bb2_rr1", 46), ("noise", None)],
)
def test_notes_in_names(name: str, midi: int | None) -> None:
    found = midi_of(name)
    assert found == midi or (name == "e_2v1" and found == 40)


def test_a_sampler_plays_the_pitch_it_is_asked_for(folder: Path) -> None:
    """Whichever recording is nearest: the made-up ones sound as they are named."""
    found = Recordings(folder)
    instrument = Sampler(found, Bank("instruments/guitar/emilyguitar_electric_clean/*"))
    assert instrument
    for midi in (45, 52, 57, 63):
        note = instrument.play(rng(), midi, 0.8)
        spectrum = np.abs(np.fft.rfft(note[0] * np.hanning(note.shape[1]), 2**18))
        hz = spectrum.argmax() * RATE_HZ / 2**18
        assert 12 * np.log2(hz / 440) + 69 == pytest.approx(midi, abs=0.15)
        assert 0.8 <= note.shape[1] / RATE_HZ <= 0.93
    assert not Sampler(found, sampler.SAXES["alto"])


def test_kits_are_complete_with_and_without_recordings(folder: Path) -> None:
    found = Recordings(folder)
    assert len(hits(found, "instruments/drums/gogodze*/ks_*")) == 2
    for studio in (None, found):
        for seed in range(4):
            for electronic in (False, True):
                kit = build_kit(studio, np.random.default_rng(seed), electronic)
                assert {"kick", "snare", "hat", "open", "tom1", "tom2", "tom3", "crash", "ride"} <= set(kit)
                assert all(kit.values())


def test_soundfonts_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Soundfonts(())
    monkeypatch.setattr(soundfonts, "_fluidsynth", lambda: None)
    assert soundfonts.installed() == ()
    with pytest.raises(SongsError, match="extra `synthesis`"):
        Soundfonts([tmp_path / "a.sf2"])
    monkeypatch.setattr(soundfonts, "_fluidsynth", lambda: object())
    with pytest.raises(SongsError, match="no such soundfont"):
        Soundfonts([tmp_path / "a.sf2"])


def test_a_soundfont_plays_the_same_each_time() -> None:
    """In tune, in time, and sample by sample the same, whatever was played before."""
    paths = soundfonts.installed()
    if not paths:
        pytest.skip("needs FluidSynth and a free soundfont: Debian's fluidsynth and fluid-soundfont-gm")
    fonts = Soundfonts(paths[:1])
    notes = [Note(0.25, 0.5, 69, 0.9)]
    first = fonts.play(rng(), 0, 73, notes, RATE_HZ)
    fonts.play(rng(), 128, 0, notes, 1000)
    np.testing.assert_array_equal(fonts.play(rng(), 0, 73, notes, RATE_HZ), first)
    assert np.abs(first[:, : int(0.24 * RATE_HZ)]).max() < 1e-4
    assert np.abs(first).max() > 0.01
    spectrum = np.abs(np.fft.rfft(first[0, int(0.35 * RATE_HZ) : int(0.75 * RATE_HZ)], 2**17))
    assert spectrum.argmax() * RATE_HZ / 2**17 == pytest.approx(440, rel=0.01)
    assert len(fonts.used) == 1


def test_unreadable_soundfont(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if soundfonts._fluidsynth() is None:
        pytest.skip("needs FluidSynth and pyfluidsynth")
    (tmp_path / "bad.sf2").write_bytes(b"not a soundfont")
    with pytest.raises(SongsError, match=r"bad\.sf2: not a soundfont"):
        Soundfonts([tmp_path / "bad.sf2"]).play(rng(), 0, 0, [Note(0, 0.1, 60, 1.0)], 1000)
    assert capfd.readouterr().err == ""


def test_origins_are_data_that_ship() -> None:
    path = Path(origins.__file__).with_name("origins.json")
    assert set(json.loads(path.read_text())) == {"recordings", "soundfonts"}
