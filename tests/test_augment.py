"""Laws of augmentation: what it changes, and what it must leave alone."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from danna_sep.errors import ConfigError
from danna_sep.training.augment import NOTHING, AugmentConfig, augment, margin
from danna_sep.training.effects import biquad_response, compress
from danna_sep.training.pitch import pitch_shift, time_stretch

RATE = 44100
ALWAYS: dict[str, dict[str, Any]] = {
    "gain": {"gain": (0.25, 1.25)},
    "swap": {"p_swap": 1},
    "flip": {"p_flip": 1},
    "pitch": {"p_pitch": 1, "semitones": (-2, 2)},
    "speed": {"p_speed": 1, "speeds": (90, 110)},
    "eq": {"p_eq": 1},
    "reverb": {"p_reverb": 1},
    "compress": {"p_compress": 1},
    "lowpass": {"p_lowpass": 1},
}
every = pytest.mark.parametrize("options", ALWAYS.values(), ids=ALWAYS)


def only(**options: Any) -> AugmentConfig:
    return dataclasses.replace(NOTHING, **options)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tone(frequency_hz: float, n_samples: int = 66150, phase: float = 0.0) -> Tensor:
    return (
        0.3
        * torch.sin(2 * math.pi * frequency_hz * torch.arange(n_samples, dtype=torch.float64) / RATE + phase).float()
    )


def column(*values: float) -> list[Tensor]:
    """One row each."""
    return [torch.tensor([[value]], dtype=torch.float64) for value in values]


def seeds(*values: int) -> Tensor:
    return torch.tensor(values)


def frequency_of(signal: Tensor) -> float:
    """Of the strongest tone, by a parabola through the logarithms of the greatest bin and its neighbours."""
    signal = signal[4000:-4000].double()
    size = torch.fft.rfft(signal * torch.hann_window(signal.shape[0], dtype=torch.float64)).abs().log()
    peak = int(size[1:-1].argmax()) + 1
    left, middle, right = size[peak - 1 : peak + 2].tolist()
    return (peak + 0.5 * (left - right) / (left - 2 * middle + right)) * RATE / signal.shape[0]


def level_db(signal: Tensor) -> float:
    return float(10 * torch.log10(signal[..., 4000:-4000].square().mean()))


@pytest.mark.parametrize("semitones", [-2, -1, 1, 2])
@pytest.mark.parametrize("frequency_hz", [110.0, 987.0, 6000.0])
def test_pitch_is_shifted_and_level_and_length_are_kept(semitones: int, frequency_hz: float) -> None:
    signal = torch.stack((tone(frequency_hz), tone(frequency_hz, phase=1.0)))
    shifted = pitch_shift(signal, semitones)
    assert shifted.shape == signal.shape
    for channel in shifted:
        cents = 1200 * math.log2(frequency_of(channel) / frequency_hz)
        assert cents == pytest.approx(100 * semitones, abs=2)
    assert level_db(shifted) == pytest.approx(level_db(signal), abs=0.5)


@pytest.mark.parametrize("semitones", [-2, 1])
def test_pitch_shifts_keep_what_makes_stereo(semitones: int) -> None:
    """Identical channels stay so to the last bit, opposite ones too, and a delay in phase between tones stays."""
    mono = noise(30000)
    shifted = pitch_shift(torch.stack((mono, mono)), semitones)
    assert torch.equal(shifted[0], shifted[1])
    opposite = pitch_shift(torch.stack((mono, -mono)), semitones)
    assert torch.allclose(opposite[0], -opposite[1], atol=1e-6)
    panned = pitch_shift(torch.stack((mono, 0.1 * mono)), semitones)
    assert torch.allclose(panned[1], 0.1 * panned[0], atol=1e-6)
    shifted = pitch_shift(torch.stack((tone(440.0), tone(440.0, phase=0.7))), semitones)
    left, right = (torch.from_numpy(scipy.signal.hilbert(channel[8000:-8000].numpy())) for channel in shifted)
    phases = (right * left.conj()).angle()
    assert phases.median().item() == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize("semitones", [-2, 2])
def test_pitch_shifts_keep_the_level_of_noises_and_clicks(semitones: int) -> None:
    """Phases that no longer fit together cost these 2 to 3 dB, if it is not given back."""
    clicks = torch.zeros(2, 44100)
    clicks[:, ::4410] = 1
    for signal in (noise(2, 44100), clicks):
        ratio = pitch_shift(signal, semitones).square().mean() / signal.square().mean()
        assert 10 * math.log10(ratio) == pytest.approx(0, abs=0.1)
    assert not pitch_shift(torch.zeros(2, 44100), semitones).any()


@pytest.mark.parametrize("ratio", [0.8, 1.0, 1.25])
def test_stretching_changes_tempo_and_not_pitch(ratio: float) -> None:
    """A tone keeps its frequency; a burst comes where it should."""
    n_samples = round(66150 * ratio)
    stretched = time_stretch(tone(700.0)[None], n_samples)
    assert stretched.shape == (1, n_samples)
    assert 1200 * math.log2(frequency_of(stretched[0]) / 700) == pytest.approx(0, abs=1)
    burst = torch.zeros(1, 66150)
    burst[:, 40000:41000] = noise(1000)
    power = time_stretch(burst, n_samples)[0].square()
    centre = (power * torch.arange(n_samples)).sum() / power.sum()
    assert centre.item() == pytest.approx(40500 * ratio, abs=1000)


def test_stretching_by_nothing_gives_the_signal_back() -> None:
    signal = noise(2, 20000)
    assert torch.allclose(time_stretch(signal, 20000), signal, atol=1e-4)


@pytest.mark.parametrize("speed", [90, 110])
def test_speed_changes_pitch_and_tempo_together(speed: int) -> None:
    n_samples, config = 40000, only(p_speed=1, speeds=(speed,))
    signal = tone(500.0, 44000)
    signal[20000:20010] = 1
    stems = signal.expand(1, 4, 2, -1)
    out = augment(stems, seeds(1), n_samples, config)[0, 0, 0]
    assert frequency_of(out) == pytest.approx(500 * speed / 100, rel=1e-3)
    assert out.abs().argmax().item() == pytest.approx(20005 * 100 / speed, abs=10)


def test_margin_is_what_the_fastest_speed_needs() -> None:
    assert margin(1000, AugmentConfig()) == 100
    assert margin(1001, AugmentConfig()) == 101
    assert margin(1000, NOTHING) == 0
    assert margin(1000, only(p_speed=1, speeds=(90,))) == 0
    with pytest.raises(ValueError, match="margin"):
        augment(noise(1, 4, 2, 1099), seeds(1), 1000)
    assert augment(noise(1, 4, 2, 4400), seeds(1), 4000).shape == (1, 4, 2, 4000)


def test_nothing_changes_nothing() -> None:
    stems = noise(2, 4, 2, 3000)
    out = augment(stems, seeds(1, 2), 2500, NOTHING)
    assert torch.equal(out, stems[..., :2500])
    out += 1
    assert torch.equal(stems, noise(2, 4, 2, 3000)), "the result must not share memory with the input"


@every
def test_every_option_does_something_and_leaves_its_input_alone(options: dict[str, Any]) -> None:
    stems = noise(2, 4, 2, 9000) * torch.linspace(0, 1, 9000)
    before = stems.clone()
    out = augment(stems, seeds(5, 6), 8000, only(**options))
    assert torch.equal(stems, before)
    assert out.isfinite().all()
    for changed, original in zip(out.flatten(0, 1), stems[..., :8000].flatten(0, 1), strict=True):
        assert (changed - original).abs().max() > 1e-3


@every
def test_silence_stays_silence(options: dict[str, Any]) -> None:
    assert not augment(torch.zeros(1, 4, 2, 9000), seeds(3), 8000, only(**options)).any()


@every
@pytest.mark.parametrize("amplitude", [1e-4, 1e3])
def test_nothing_depends_on_the_level(options: dict[str, Any], amplitude: float) -> None:
    stems = noise(1, 4, 2, 9000)
    expected = augment(stems, seeds(4), 8000, only(**options))
    scaled = augment(amplitude * stems, seeds(4), 8000, only(**options))
    assert torch.allclose(scaled / amplitude, expected, atol=1e-4)


def test_items_do_not_depend_on_their_neighbours() -> None:
    """Resumed training, or another batch size, gives the same items."""
    stems = noise(3, 4, 2, 9000)
    config = AugmentConfig(p_pitch=0.5, p_speed=0.5, p_eq=0.5, p_reverb=0.5, p_compress=0.5, p_lowpass=0.5)
    together = augment(stems, seeds(7, 8, 9), 8000, config)
    for i, seed in enumerate((7, 8, 9)):
        alone = augment(stems[i : i + 1], seeds(seed), 8000, config)[0]
        assert torch.allclose(alone, together[i], atol=1e-5)


def test_a_generator_decides_everything() -> None:
    stems = noise(2, 4, 2, 9000)
    first, second, other = (augment(stems, torch.Generator().manual_seed(seed), 8000) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_an_option_does_not_change_what_others_do() -> None:
    """Two recipes that differ in one option remain comparable: the same stems are swapped and flipped."""
    stems = noise(4, 4, 2, 9000)
    plain = augment(stems, seeds(1, 2, 3, 4), 8000, only(p_flip=0.5))
    filtered = augment(stems, seeds(1, 2, 3, 4), 8000, only(p_flip=0.5, p_lowpass=1))
    assert ((plain * filtered).sum((-2, -1)) > 0).all()


def test_frequencies_of_what_happens() -> None:
    """Over 1600 stems: gains uniform, swaps and flips in half of them, to four standard deviations."""
    n_items, n_samples = 400, 4
    stems = torch.zeros(n_items, 4, 2, n_samples)
    stems[:, :, 0] = 1
    out = augment(stems, torch.arange(n_items), n_samples, only(gain=(0.25, 1.25), p_swap=0.5, p_flip=0.5))
    n_stems = 4 * n_items
    gains = out.abs().amax((-2, -1))
    assert gains.min() >= 0.25
    assert gains.max() <= 1.25
    assert gains.mean().item() == pytest.approx(0.75, abs=4 / math.sqrt(12 * n_stems))
    assert gains.var().item() == pytest.approx(1 / 12, rel=0.1)
    deviation = 4 * 0.5 / math.sqrt(n_stems)
    assert (out[:, :, 1, 0] != 0).float().mean().item() == pytest.approx(0.5, abs=deviation)
    assert (out.sum((-2, -1)) < 0).float().mean().item() == pytest.approx(0.5, abs=deviation)
    flips, swaps = out.sum((-2, -1)) < 0, out[:, :, 1, 0] != 0
    assert (flips == swaps).float().mean().item() == pytest.approx(0.5, abs=deviation), "they are independent"


def test_paper_values() -> None:
    config = AugmentConfig()
    assert (config.gain, config.p_swap, config.p_flip) == ((0.25, 1.25), 0.5, 0.5)
    assert (config.p_pitch, config.semitones) == (0.2, (-2, -1, 0, 1, 2))
    assert (config.p_speed, config.speeds) == (0.2, (90, 100, 110))
    assert not any((config.p_eq, config.p_reverb, config.p_compress, config.p_lowpass))


@pytest.mark.parametrize("kind", ["low", "peak", "high"])
@pytest.mark.parametrize("gain_db", [-6.0, 6.0])
def test_equaliser_bands_have_their_gains(kind: str, gain_db: float) -> None:
    """At the peak's frequency all of it; of a shelf all at its end, half of it in dB at its corner, none beyond."""
    frequency_hz = torch.tensor([1.0, 1000.0, 22000.0], dtype=torch.float64)
    response = biquad_response(kind, *column(1000.0, 0.7, gain_db), frequency_hz)
    low, centre, high = (20 * response[0].abs().log10()).tolist()
    expected = {"low": (1, 0.5, 0), "peak": (0, 1, 0), "high": (0, 0.5, 1)}[kind]
    assert (low, centre, high) == pytest.approx([share * gain_db for share in expected], abs=0.02)


def test_equaliser_is_the_recursive_filter() -> None:
    """A product of spectra with room behind gives what the difference equation gives, by an independent package."""
    frequency_hz, gain_db, q, centre = torch.linspace(0, RATE / 2, 50, dtype=torch.float64), 5.0, 1.3, 800.0
    a, omega = 10 ** (gain_db / 40), 2 * math.pi * centre / RATE
    alpha = math.sin(omega) / (2 * q)
    b = [1 + alpha * a, -2 * math.cos(omega), 1 - alpha * a]
    denominator = [1 + alpha / a, -2 * math.cos(omega), 1 - alpha / a]
    _, expected = scipy.signal.freqz(b, denominator, frequency_hz.numpy(), fs=RATE)
    response = biquad_response("peak", *column(centre, q, gain_db), frequency_hz)
    assert np.allclose(response[0].numpy(), expected)


def test_filters_do_not_wrap_around() -> None:
    """A click at the end must not be heard at the beginning."""
    stems = torch.zeros(1, 4, 2, 8000)
    stems[..., -1] = 1
    for options in ({"p_eq": 1}, {"p_reverb": 1}):
        assert augment(stems, seeds(2), 8000, only(**options))[..., :4000].abs().max() < 1e-4


def test_lowpass_passes_what_is_low() -> None:
    stems = torch.stack((tone(1000.0), tone(20000.0))).expand(1, 4, 2, -1)
    out = augment(stems, seeds(2), 66150, only(p_lowpass=1))
    assert torch.allclose(out[:, :, 0], stems[:, :, 0], atol=1e-2)
    assert level_db(out[:, :, 1]) < -60


def test_reverberation_follows_its_cause_and_is_quieter() -> None:
    stems = torch.zeros(1, 4, 2, 70000)
    stems[..., 1000] = 1
    out = augment(stems, seeds(2), 70000, only(p_reverb=1))
    added = out - stems
    assert added[..., :1200].abs().max() < 1e-4
    energy_db = 10 * torch.log10(added.square().sum(-1))
    assert ((energy_db > -20.1) & (energy_db < -5.9)).all()
    assert not torch.allclose(added[:, :, 0], added[:, :, 1], atol=1e-3), "each channel has its own"


def test_compression_makes_loud_moments_quieter_and_keeps_level_and_balance() -> None:
    signal = noise(1, 1, 40000).expand(1, 2, -1) * torch.tensor([1.0, 0.5])[:, None]
    signal = torch.cat((signal, 10 * signal), -1)
    out = compress(signal, torch.tensor([-12.0]), torch.tensor([4.0]))
    quiet, loud = (level_db(part) for part in out.split(40000, -1))
    assert loud - quiet < 20 - 3
    assert loud > quiet
    assert out.square().mean().item() == pytest.approx(signal.square().mean().item(), rel=1e-4)
    assert torch.allclose(out[:, 1], 0.5 * out[:, 0], rtol=1e-4)
    untouched = compress(signal, torch.tensor([30.0]), torch.tensor([4.0]))
    assert torch.allclose(untouched, signal, rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"p_swap": 1.5},
        {"p_eq": -0.1},
        {"gain": (1.0, 0.5)},
        {"semitones": ()},
        {"semitones": (40,)},
        {"speeds": (10,)},
        {"eq_db": float("nan")},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        AugmentConfig(**options)
