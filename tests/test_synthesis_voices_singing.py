"""Singing with WORLD: pitch, formants, vibrato, keys."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from scipy import signal

from danna_sep.training.synthesis import vocal_world
from danna_sep.training.synthesis.singing import SEMITONE, Note, contour, hold, log_hz, sing, stretch, syllables
from danna_sep.training.synthesis.treatment import RATE_HZ
from danna_sep.training.synthesis.vocal_singers import Singer, cast
from danna_sep.training.synthesis.vocal_ways import in_tune, into_key
from danna_sep.training.synthesis.vocal_world import FRAME_S, Voice, analyse, bridged, join, silence, smooth
from test_synthesis_voices import SCALE, needs_world, vowel

CALM = Singer("male", 1.0, 40, 60, scoops=0.0)


@pytest.fixture(scope="module")
def spoken() -> Voice:
    return analyse(np.pad(vowel(170.0, 0.9), (2000, 2000)).astype(np.float32))


def pitch_of(sound: npt.NDArray[np.float32], around_hz: float, first_s: float, last_s: float) -> float:
    """Fundamental in Hz by autocorrelation, independent of WORLD, within three semitones of `around_hz`."""
    x = sound[int(first_s * RATE_HZ) : int(last_s * RATE_HZ)].astype(np.float64)
    x = x * np.hanning(len(x))
    like = signal.correlate(x, x, method="fft")[len(x) - 1 :]
    like = like[: len(x) // 2] / (1 - np.arange(len(x) // 2) / len(x))
    low, high = int(RATE_HZ / around_hz / 1.19), int(RATE_HZ / around_hz * 1.19) + 1
    at = low + int(np.argmax(like[low:high]))
    before, here, after = like[at - 1 : at + 2]
    return RATE_HZ / (at + 0.5 * (before - after) / (before - 2 * here + after))


def sung(voice: Voice, midi: float, singer: Singer, n: int = 300) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(1)
    log_pitch = contour(rng, singer, n, [Note(0, n, midi)])
    return sing(hold(rng, voice, n), log_pitch, singer, np.ones(n))


@needs_world
@pytest.mark.parametrize("midi", [43, 50, 57, 64, 72])
def test_a_held_syllable_has_the_notes_pitch(spoken: Voice, midi: int) -> None:
    sound = sung(spoken, midi, CALM)
    want_hz = 440 * 2 ** ((midi - 69) / 12)
    for first_s in (0.4, 0.7, 1.0):
        cents = 1200 * np.log2(pitch_of(sound, want_hz, first_s, first_s + 0.3) / want_hz)
        assert abs(cents) < 15


@needs_world
def test_formants_move_and_the_pitch_does_not(spoken: Voice) -> None:
    peaks, pitches = [], []
    for formants in (0.75, 1.0, 1.3):
        sound = sung(spoken, 43, Singer("male", formants, 40, 60, scoops=0.0))
        hz, power = signal.welch(sound[RATE_HZ // 2 : RATE_HZ], RATE_HZ, nperseg=8192)
        level = np.convolve(10 * np.log10(power + 1e-20), np.hanning(45) / 22, "same")  # over two harmonics
        near = (hz > 350) & (hz < 1000)
        peaks.append(hz[near][np.argmax(level[near])])
        pitches.append(pitch_of(sound, 98.0, 0.5, 1.2))
    assert peaks[0] / peaks[1] == pytest.approx(0.75, rel=0.1)
    assert peaks[2] / peaks[1] == pytest.approx(1.3, rel=0.1)
    assert 1200 * np.log2(max(pitches) / min(pitches)) < 5


@needs_world
@pytest.mark.parametrize(("rate_hz", "cents"), [(4.8, 70.0), (6.2, 35.0)])
def test_vibrato_has_its_rate_and_depth(spoken: Voice, rate_hz: float, cents: float) -> None:
    singer = Singer("male", 1.0, 40, 60, vibrato_hz=rate_hz, vibrato_cents=cents, scoops=0.0)
    voice = analyse(sung(spoken, 57, singer, 600))
    swing = 1200 * np.log2(voice.pitch_hz[150:550] / 220.0)
    swing = swing - smooth(swing, 101)
    spectrum = np.abs(np.fft.rfft(swing * np.hanning(400), 8192)) / 100  # amplitude: half the window's sum is 100
    at = int(np.argmax(spectrum))
    assert at / 8192 / FRAME_S == pytest.approx(rate_hz, rel=0.08)
    assert spectrum[at] == pytest.approx(cents, rel=0.2)


@needs_world
def test_a_tune_glides_and_arrives(spoken: Voice) -> None:
    notes = [Note(0, 150, 50.0), Note(150, 150, 57.0)]
    rng = np.random.default_rng(0)
    sound = sing(hold(rng, spoken, 300), contour(rng, CALM, 300, notes), CALM, np.ones(300))
    assert len(sound) == round(300 * FRAME_S * RATE_HZ)
    assert pitch_of(sound, 146.8, 0.3, 0.65) == pytest.approx(146.83, rel=0.009)
    assert pitch_of(sound, 220.0, 0.9, 1.3) == pytest.approx(220.0, rel=0.009)


@needs_world
def test_men_and_women_sing_in_their_ranges(spoken: Voice) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        for sex, low_hz, high_hz in (("male", 80, 260), ("female", 160, 600)):
            singer = cast(rng, 0.0, sex)  # type: ignore[arg-type]
            pitch_hz = analyse(sung(spoken, singer.middle, singer, 160)).pitch_hz
            assert low_hz <= np.median(pitch_hz[pitch_hz > 0]) <= high_hz


@needs_world
def test_gain_silence_and_unvoiced_frames(spoken: Voice) -> None:
    n = 200
    voice = hold(np.random.default_rng(0), spoken, n)
    log_pitch = np.full(n, log_hz(50))
    loud, soft = (sing(voice, log_pitch, CALM, np.full(n, gain)) for gain in (1.0, 0.1))
    ratio = np.sqrt(np.mean(np.square(loud)) / np.mean(np.square(soft)))
    assert ratio == pytest.approx(10, rel=0.05)
    nothing = sing(silence(n), log_pitch, CALM, np.ones(n))
    assert np.abs(nothing).max() < 1e-3 * np.abs(loud).max()
    assert not len(np.flatnonzero(hold(np.random.default_rng(0), silence(50), n).pitch_hz))


@needs_world
def test_syllables_are_found_where_the_sound_changes() -> None:
    parts = [vowel(200.0, 0.3), vowel(200.0, 0.3, (300, 2300, 3000)), vowel(200.0, 0.3, (500, 900, 2500))]
    voice = analyse(np.concatenate(parts).astype(np.float32))
    found = syllables(voice, 40)
    assert found[0][0] == 0
    assert found[-1][1] == len(voice)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(found))
    for change in (60, 120):
        assert min(abs(first - change) for first, _ in found) <= 6
    for n in (1, 5, 30, 200):
        assert len(stretch(voice, 10, 60, n)) == n


def test_joined_and_taken_voices_keep_their_frames() -> None:
    whole = join([silence(7), silence(1), silence(12)])
    assert len(whole) == 20
    assert len(whole.take(np.arange(5))) == 5
    assert whole.envelope.shape == (20, vocal_world.N_BINS)


def test_running_means() -> None:
    x = np.random.default_rng(0).standard_normal(50)
    for width in (1, 2, 5, 8, 70):
        padded = np.pad(x, (width // 2, (width - 1) // 2), mode="edge")
        want = np.convolve(padded, np.full(width, 1 / width), "valid")
        np.testing.assert_allclose(smooth(x, width), want, atol=1e-12)


def test_pitch_is_bridged_over_gaps() -> None:
    pitch_hz = np.array([0.0, 0, 100, 100, 0, 0, 200, 200, 400, 200, 200, 0])
    whole = np.exp(bridged(np.repeat(pitch_hz, 3)))
    assert whole[0] == pytest.approx(100)
    assert whole[-1] == pytest.approx(200)
    assert whole.max() < 201  # the octave error of three frames is gone
    assert np.exp(bridged(np.zeros(4))) == pytest.approx(200)


def test_melodies_are_brought_into_the_key_and_onto_its_notes() -> None:
    rng = np.random.default_rng(0)
    for shift in (-3.0, 0.4, 2.0, 4.7):
        tune = rng.choice(np.array([62, 64, 66, 67, 69, 71, 73, 74]), 60).repeat(20) + shift
        log_pitches = np.log(440) + (tune - 69 + rng.normal(0, 0.15, len(tune))) * SEMITONE
        found = into_key(log_pitches, SCALE, 2, -shift)
        assert found == pytest.approx(-shift, abs=0.2)
    off = np.full(100, log_hz(66.3))
    for strength, want in ((0.0, 66.3), (0.5, 66.15), (1.0, 66.0)):
        np.testing.assert_allclose(in_tune(off, SCALE, strength), log_hz(want), atol=1e-9)
