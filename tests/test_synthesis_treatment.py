"""What a mixing desk does, against closed forms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danna_sep.training.synthesis import mastering, room, treatment
from danna_sep.training.synthesis.electronic_bass import ElectronicBass
from danna_sep.training.synthesis.electronic_kit import electronic_kit
from danna_sep.training.synthesis.patches import Patch, oscillator

RATE_HZ = treatment.RATE_HZ


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def tone(hz: float, length_s: float = 1.0, gain: float = 0.3) -> np.ndarray:
    t = np.arange(int(length_s * RATE_HZ)) / RATE_HZ
    return (gain * np.sin(2 * np.pi * hz * t) * np.ones((2, 1))).astype(np.float32)


def noise(length_s: float = 1.0, gain: float = 0.1) -> np.ndarray:
    return (gain * rng().standard_normal((2, int(length_s * RATE_HZ)))).astype(np.float32)


def middle(sound: np.ndarray) -> np.ndarray:
    return sound[:, 8000:-8000]


@pytest.mark.parametrize(
    ("hz", "gain_db"), [(100, 6.0), (1000, -3.0), (8000, 0.0), (300, 6 - 9 * np.log2(3) / np.log2(10))]
)
def test_equaliser_follows_its_curve(hz: float, gain_db: float) -> None:
    sound = tone(hz, 2.0)
    shaped = treatment.shape_spectrum(sound, {100.0: 6.0, 1000.0: -3.0, 4000.0: 0.0})
    np.testing.assert_allclose(middle(shaped), middle(sound) * treatment.db(gain_db), atol=0.005)


def test_flat_equaliser_changes_nothing() -> None:
    sound = noise()
    np.testing.assert_allclose(treatment.shape_spectrum(sound, {100.0: 0.0, 1000.0: 0.0}), sound, atol=1e-5)


@pytest.mark.parametrize("hz", [50, 100, 400, 5000])
@pytest.mark.parametrize("order", [1, 2])
def test_low_cut_is_butterworths(hz: float, order: int) -> None:
    sound = tone(hz, 2.0)
    level_db = treatment.rms_db(middle(treatment.cut(sound, 400.0, 20_000.0, order))) - treatment.rms_db(middle(sound))
    assert level_db == pytest.approx(-10 * np.log10(1 + (400 / hz) ** (2 * order)), abs=0.3)


@given(st.floats(-1, 1))
def test_panning_keeps_power(pan: float) -> None:
    sound = np.ones((1, 10), np.float32)
    left, right = treatment.stereo(sound, pan)[:, 0]
    assert left**2 + right**2 == pytest.approx(2, rel=1e-5)
    assert (left > right) == (pan < 0) or abs(pan) < 1e-3


def test_added_sounds_lie_where_they_should_and_are_cut_at_the_end() -> None:
    out = np.zeros((2, RATE_HZ), np.float32)
    one = np.ones((2, 1000), np.float32)
    treatment.add(out, one, 0.5, 0.25)
    assert np.flatnonzero(out[0])[[0, -1]].tolist() == [RATE_HZ // 2, RATE_HZ // 2 + 999]
    assert (out[:, RATE_HZ // 2 : RATE_HZ // 2 + 1000] == 0.25).all()
    treatment.add(out, one, 0.99)
    treatment.add(out, one, -0.01)
    treatment.add(out, one, 5.0)
    assert out.shape == (2, RATE_HZ)
    assert abs(out[0, -1]) < 0.01


def test_fades_leave_the_input_and_the_middle() -> None:
    sound = np.ones((2, 4410), np.float32)
    faded = treatment.fade(sound, 0.01, 0.02)
    assert (sound == 1).all()
    assert faded[0, 0] == 0
    assert (faded[:, 441:-882] == 1).all()
    assert (np.diff(faded[0, -882:]) <= 0).all()


@pytest.mark.parametrize("factor", [0.5, 2 ** (3 / 12), 1.5])
def test_faster_is_higher_and_shorter(factor: float) -> None:
    played = treatment.respeed(tone(500, 2.0), factor)
    assert played.shape[1] == pytest.approx(2 * RATE_HZ / factor, abs=2)
    spectrum = np.abs(np.fft.rfft(played[0] * np.hanning(played.shape[1])))
    assert spectrum.argmax() * RATE_HZ / played.shape[1] == pytest.approx(500 * factor, abs=1)


def test_a_still_delay_is_a_delay() -> None:
    sound = noise(0.2)
    delayed = treatment.sway(sound, 0.0, 1.0, 0.0, 100 / RATE_HZ)
    np.testing.assert_allclose(delayed[:, 100:], sound[:, :-100], atol=1e-4)
    assert (delayed[:, :99] == 0).all()


def test_saturation_keeps_the_peak_and_silence() -> None:
    sound = noise()
    for drive in (0.5, 3.0, 30.0):
        assert np.abs(treatment.saturate(sound, drive)).max() == pytest.approx(np.abs(sound).max(), rel=1e-3)
    assert (treatment.saturate(np.zeros((2, 100), np.float32), 5.0) == 0).all()


def test_compression_narrows_dynamics_and_keeps_the_image() -> None:
    sound = np.concatenate([noise(1.0, 0.01), noise(1.0, 0.3)], axis=1)
    sound[1] *= 0.5
    done = treatment.compress(sound, rng())
    quiet_db, loud_db = (treatment.rms_db(done[:, part]) for part in (slice(0, RATE_HZ), slice(RATE_HZ, None)))
    assert loud_db - quiet_db < treatment.rms_db(sound[:, RATE_HZ:]) - treatment.rms_db(sound[:, :RATE_HZ]) - 1
    np.testing.assert_allclose(done[1] * sound[0], done[0] * sound[1], atol=1e-6)


def test_silences_are_shortened() -> None:
    sound = np.concatenate([noise(1.0), np.zeros((2, 4 * RATE_HZ), np.float32), noise(1.0)], axis=1)
    assert treatment.trim_silences(sound).shape[1] / RATE_HZ == pytest.approx(2.5, abs=0.7)
    assert treatment.trim_silences(np.zeros((2, RATE_HZ), np.float32)).shape[1] == 0
    assert treatment.trim_silences(sound[:, :1000]).shape[1] == 0


@pytest.mark.parametrize("effect", ["reverberate", "echo", "chorus", "widen", "colour", "maybe"])
def test_effects_keep_length_and_type(effect: str) -> None:
    sound = noise(0.5)
    before = sound.copy()
    done = {
        "reverberate": lambda: treatment.reverberate(sound, rng(), 0.5, 0.3),
        "echo": lambda: treatment.echo(sound, rng(), 0.1),
        "chorus": lambda: treatment.chorus(sound, rng()),
        "widen": lambda: treatment.widen(sound, rng()),
        "colour": lambda: treatment.colour(sound, rng(), 40.0, 9000.0),
        "maybe": lambda: treatment.maybe_reverberate(sound, rng(), 1.0, 2.0, 0.5),
    }[effect]()
    assert done.shape == sound.shape
    assert done.dtype == np.float32
    assert np.isfinite(done).all()
    np.testing.assert_array_equal(sound, before)
    silence = np.zeros_like(sound)
    assert np.abs(treatment.reverberate(silence, rng(), 0.5, 0.3)).max() == 0


@pytest.mark.parametrize("decay_s", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("make", [room.room, room.plate])
def test_reverberation_decays_as_fast_as_asked(make: Callable[..., np.ndarray], decay_s: float) -> None:
    """By Schroeder's integral, from -5 to -25 dB; Sabine's formula is rough in small rooms."""
    decays_s = []
    for seed in range(9):
        heard = make(decay_s, np.random.default_rng(seed))
        assert np.isfinite(heard).all()
        assert heard.shape[0] == 2
        left = np.cumsum(np.square(heard, dtype=np.float64).sum(0)[::-1])[::-1]
        level_db = 10 * np.log10(left / left[0] + 1e-12)
        decays_s.append(3 * (np.argmax(level_db < -25) - np.argmax(level_db < -5)) / 44100)
    assert 0.6 * decay_s < np.median(decays_s) < 1.4 * decay_s
    again = make(decay_s, np.random.default_rng(8))
    assert np.array_equal(again, heard), "a song would not be the same twice"


def test_wetness_is_the_rooms_level() -> None:
    sound = noise(3.0)
    wet = treatment.reverberate(sound, rng(), 0.4, 0.5) - sound
    assert treatment.rms_db(wet) - treatment.rms_db(sound) == pytest.approx(20 * np.log10(0.5), abs=0.1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 0.9), st.floats(10, 300))
def test_limited_stems_add_up_to_the_limited_mixture(seed: int, ceiling: float, release_db_s: float) -> None:
    """The law that makes mastering harmless for training; and no sample of the mixture passes the ceiling."""
    generator = np.random.default_rng(seed)
    stems = {
        name: (generator.standard_normal((2, 9001)) * generator.choice([0.01, 0.3, 1.0], (1, 9001))).astype(np.float32)
        for name in ("drums", "bass", "other", "vocals")
    }
    mixture = mastering.total(stems)
    gain = mastering.limiter_gain(mixture, ceiling, release_db_s)
    limited = mastering.limit(stems, ceiling, release_db_s)
    np.testing.assert_allclose(mastering.total(limited), mixture * gain, atol=1e-5)
    assert np.abs(mixture * gain).max() <= ceiling * 1.0001
    assert (gain <= 1).all()


def test_limiter_leaves_what_is_below_its_ceiling() -> None:
    sound = noise(1.0, 0.01)
    assert (mastering.limiter_gain(sound, 0.5, 100.0) == 1).all()
    sound[:, 20_000] = 1.0
    gain = mastering.limiter_gain(sound, 0.5, 100.0)
    assert gain[20_000] == pytest.approx(0.5, rel=0.01)
    assert gain[20_000 - 2000] == 1
    assert gain[-1] == 1
    assert np.abs(np.diff(gain)).max() < 0.01


def test_gate_opens_and_closes() -> None:
    sound = np.ones((2, 10 * RATE_HZ), np.float32)
    gated = mastering.gate(sound, [(2.0, 4.0), (4.5, 5.0)])
    assert (gated[:, : int(1.9 * RATE_HZ)] == 0).all()
    assert (gated[:, int(2.0 * RATE_HZ) : int(4.0 * RATE_HZ)] == 1).all()
    assert (gated[:, int(4.5 * RATE_HZ) : int(5.0 * RATE_HZ)] == 1).all()
    assert (gated[:, int(7.1 * RATE_HZ) :] == 0).all()
    assert (mastering.gate(sound, [(0.0, 10.0)]) == 1).all()


def test_level_is_measured_where_it_sounds() -> None:
    sound = np.concatenate([tone(441, 1.0, 0.1), np.zeros((2, 3 * RATE_HZ), np.float32)], axis=1)
    assert mastering.level_db(sound, [(0.0, 4.0)]) == pytest.approx(-23.01, abs=0.05)
    assert mastering.level_db(np.zeros_like(sound), [(0.0, 4.0)]) == pytest.approx(-120)
    assert mastering.level_db(sound, []) == -120


@pytest.mark.parametrize("wave", ["saw", "square", "triangle", "pulse", "sine"])
def test_oscillators_have_their_pitch_and_no_aliases(wave: str) -> None:
    sound = oscillator(wave, 1000.0, RATE_HZ)
    spectrum = np.abs(np.fft.rfft(sound)) / RATE_HZ
    assert spectrum.argmax() == 1000
    harmonics = spectrum[1000::1000].copy()
    spectrum[1000::1000] = 0
    assert spectrum.max() < 2e-3 * harmonics[0]


@pytest.mark.parametrize("role", ["bass", "lead", "pad", "pluck"])
def test_patches_play_what_they_are_told(role: str) -> None:
    for seed in range(4):
        patch = Patch(np.random.default_rng(seed), role)  # type: ignore[arg-type]
        note = patch.play(57, 0.5)
        assert note.dtype == np.float32
        assert np.isfinite(note).all()
        assert 0.5 * RATE_HZ <= note.shape[1] <= 0.95 * RATE_HZ
        assert treatment.rms_db(note) > -30


def test_electronic_drums_are_hits() -> None:
    kit = electronic_kit(rng())
    assert {"kick", "snare", "hat", "open", "crash", "ride", "rim", "clap", "tom1", "tom2", "tom3"} <= set(kit)
    for hits in kit.values():
        for hit in hits:
            assert np.abs(hit).max() == pytest.approx(1, abs=1e-3)
            assert hit.dtype == np.float32


def test_electronic_basses_play_their_note() -> None:
    """In tune once a swoop is over, as loud as other instruments, the same again."""
    for seed in range(8):
        bass = ElectronicBass(np.random.default_rng(seed))
        note = bass.play(45, 1.5)
        assert note.dtype == np.float32
        assert 1.5 * RATE_HZ <= note.shape[1] <= 1.7 * RATE_HZ
        assert bass.play(45, 1.5) is note
        loudest = max(treatment.rms_db(note[:, start : start + 2205]) for start in range(0, note.shape[1] - 2205, 2205))
        assert loudest == pytest.approx(-20, abs=1.5), seed
        later = note[0, round(0.3 * RATE_HZ) : round(1.3 * RATE_HZ)]
        spectrum = np.abs(np.fft.rfft(later * np.hanning(len(later)), 4 * RATE_HZ))
        assert treatment.rms_db(later[None]) > -60, seed
        # Of 110 Hz, or of 55 where an octave below moves its phase.
        strongest_hz = float(spectrum.argmax()) / 4
        assert min(abs(strongest_hz - n * 55) for n in range(1, 13)) < 0.6, (seed, strongest_hz)
        steps = np.abs(np.diff(note)).max(axis=1)
        assert steps[1] <= 1.1 * steps[0], "the later channel clicks"


def test_ducking_follows_the_bass_drum() -> None:
    steady = np.ones((2, 3 * RATE_HZ), np.float32)
    for seed in range(4):
        ducked = treatment.duck(steady, [0.5, 2.0, 9.0], np.random.default_rng(seed))
        assert ducked[:, : round(0.49 * RATE_HZ)] == pytest.approx(1)
        for start_s in (0.5, 2.0):
            down = ducked[:, round((start_s + 0.01) * RATE_HZ)]
            assert (down >= 10 ** (-26 / 20)).all()
            assert (down <= 10 ** (-5 / 20)).all()
            assert ducked[:, round((start_s + 0.45) * RATE_HZ)] == pytest.approx(1)
    assert treatment.duck(steady, [], rng()) == pytest.approx(1)
