"""Speech synthesisers as voices: their sentences, their band, and that a song can be sung with them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from danna_sep.errors import SongsError
from danna_sep.training.synthesis import speakers
from danna_sep.training.synthesis.phrases import BANKS
from danna_sep.training.synthesis.placing import RATE_HZ
from danna_sep.training.synthesis.recordings import Recordings
from danna_sep.training.synthesis.vocal_material import Material, banks_for
from made_up_recordings import write_recordings

needs_flite = pytest.mark.skipif(not speakers.installed(), reason="Flite is not installed")


def test_sentences_are_the_same_for_the_same_number_and_differ_otherwise() -> None:
    sentences = [speakers.sentence(number) for number in range(speakers.N_SENTENCES)]
    assert sentences == [speakers.sentence(number) for number in range(speakers.N_SENTENCES)]
    assert len(set(sentences)) == len(sentences)
    assert all(5 <= len(each.split()) <= 9 for each in sentences)


@needs_flite
def test_highs_are_a_softer_mirror_image_and_what_is_below_stays() -> None:
    sound = speakers.say("rms", 3)
    assert sound.dtype == np.float32
    assert sound.shape[0] == 1
    power = np.square(np.abs(np.fft.rfft(sound[0])))
    hz = np.fft.rfftfreq(sound.shape[1], 1 / RATE_HZ)

    def level_db(low: float, high: float) -> float:
        return float(10 * np.log10(power[(hz >= low) & (hz < high)].sum()))

    mirrored = 20 * np.log10(0.3)
    assert level_db(8500, 11500) - level_db(4500, 7500) == pytest.approx(mirrored, abs=0.5)
    assert level_db(12500, RATE_HZ / 2) < level_db(8500, 11500) - 30
    assert level_db(0, 4000) > level_db(8500, 11500) + 20
    np.testing.assert_array_equal(sound, speakers.say("rms", 3))


@needs_flite
def test_their_banks_serve_and_are_credited(tmp_path: Path) -> None:
    """Speakers come with any folder of recordings, and what they said is read as a recording is."""
    recordings = Recordings(write_recordings(tmp_path))
    banks = [name for name, bank in BANKS.items() if bank.pattern.startswith("flite/")]
    assert set(banks) <= set(banks_for(recordings, "words"))
    material = Material(recordings, "rms", np.random.default_rng(0), 5)
    assert len(material.paths) == 5
    assert {origin.bank for origin in recordings.used} == {"Flite voices awb, kal16, rms, slt"}
    loud = np.sort(np.abs(material.sound(material.paths[0])).max(axis=0))
    assert loud[-1] > 0.05


def test_without_them_their_banks_are_empty(tmp_path: Path) -> None:
    recordings = Recordings(write_recordings(tmp_path), spoken_by=())
    assert not recordings.files("voices/flite/*/*")
    assert "rms" not in banks_for(recordings, "words")


def test_a_synthesiser_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "flite"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no such voice')\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SongsError, match="flite: the voice rms says nothing: no such voice"):
        speakers.say("rms", 0)
