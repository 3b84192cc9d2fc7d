"""Augmentation: every stem of every item changed at random, where the tensors are.

What is done is decided on the CPU, from a fixed count of random numbers per item: the same on any device, whatever the
other items of the batch, and whether or not an option is on. Rates and semitones come in few steps, so that few
filters are needed and rows with the same one go together.

The defaults of `AugmentConfig` are the paper's: gain, channels swapped, polarity flipped, pitch, speed. The others
(equaliser, reverberation, compression, low-pass) are ours, for small collections, and off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Int
from torch import Tensor

from danna_sep.errors import ConfigError
from danna_sep.signal.resample import resample
from danna_sep.training.effects import biquad_response, compress, lowpass_response, reverb_tail
from danna_sep.training.pitch import pitch_shift
from danna_sep.types import SAMPLE_RATE

_N_NUMBERS: Final = 32
"""Random numbers per stem: more than are used, so that new options change nothing for old ones."""

_FILTER_TAIL: Final = 8192
_LONGEST_REVERB_S: Final = 1.2
_LONGEST_DELAY_S: Final = 0.03


@dataclass(frozen=True)
class AugmentConfig:
    """What may be done to a stem, and with which probability.

    Attributes:
        gain: Least and greatest factor, drawn uniformly.
        p_swap: Left and right exchanged.
        p_flip: Polarity inverted.
        p_pitch: Pitch shifted, by any of `semitones`.
        semitones: Whole semitones.
        p_speed: Tempo and pitch changed together, as on a tape, to any of `speeds`.
        speeds: In percent.
        p_eq: Low shelf, peak and high shelf of up to +-`eq_db`.
        eq_db: Greatest gain of a band, dB.
        p_reverb: Exponentially decaying noise added, 6 to 20 dB below the stem.
        p_compress: Loud moments made quieter in relation to the rest; the stem's level stays.
        p_lowpass: Cut off between 8 and 16 kHz, as lossy coding does.
    """

    gain: tuple[float, float] = (0.25, 1.25)
    p_swap: float = 0.5
    p_flip: float = 0.5
    p_pitch: float = 0.2
    semitones: tuple[int, ...] = (-2, -1, 0, 1, 2)
    p_speed: float = 0.2
    speeds: tuple[int, ...] = (90, 100, 110)
    p_eq: float = 0.0
    eq_db: float = 6.0
    p_reverb: float = 0.0
    p_compress: float = 0.0
    p_lowpass: float = 0.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value: Any = getattr(self, each.name)
            if each.name.startswith("p_") and not 0 <= value <= 1:
                raise ConfigError(f"{each.name} is a probability, not {value}")
        if not 0 <= self.gain[0] <= self.gain[1] < math.inf:
            raise ConfigError(f"gain must be two factors, the smaller first, not {self.gain}")
        if not self.semitones or not all(abs(shift) <= 12 for shift in self.semitones):
            raise ConfigError(f"semitones must be some of -12 to 12, not {self.semitones}")
        if not self.speeds or not all(50 <= speed <= 200 for speed in self.speeds):
            raise ConfigError(f"speeds must be 50 to 200 percent, not {self.speeds}")
        if not 0 <= self.eq_db <= 24:
            raise ConfigError(f"eq_db must be 0 to 24, not {self.eq_db}")


NOTHING: Final = AugmentConfig(gain=(1.0, 1.0), p_swap=0, p_flip=0, p_pitch=0, p_speed=0)
"""Changes nothing; `dataclasses.replace` turns on what is wanted."""


def margin(n_samples: int, config: AugmentConfig) -> int:
    """Samples that `augment` needs beyond those it gives, for the fastest speed."""
    fastest = max(100, *config.speeds) if config.p_speed else 100
    return -(-n_samples * fastest // 100) - n_samples


@torch.no_grad()
def augment(
    stems: Float[Tensor, "batch source channel time"],
    randomness: torch.Generator | Int[Tensor, " batch"],
    n_samples: int,
    config: AugmentConfig | None = None,
) -> Float[Tensor, "batch source channel new_time"]:
    """Stems changed, each by itself.

    Args:
        stems: At least n_samples and their `margin` long. Not written to.
        randomness: A generator on the CPU, from which a seed for each item is drawn; or these seeds.
        n_samples: Samples to give.
        config: None: the paper's.

    Returns:
        n_samples of each; their sum is the mixture.

    Raises:
        ValueError: Stems too short.
    """
    config = AugmentConfig() if config is None else config
    batch, n_sources, n_channels, n_given = stems.shape
    if n_given < n_samples + margin(n_samples, config):
        raise ValueError(f"{n_given} samples for {n_samples} and {margin(n_samples, config)} of margin")
    if isinstance(randomness, torch.Generator):
        randomness = torch.randint(2**62, (batch,), generator=randomness)
    numbers = [
        torch.rand(n_sources, _N_NUMBERS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for seed in randomness.tolist()
    ]
    plan = [_plan(row.tolist(), config) for row in torch.cat(numbers)]
    rows = stems.reshape(-1, n_channels, n_given)
    with torch.autocast(stems.device.type, enabled=False):
        out = rows[..., :n_samples].clone()
        for speed, some in _groups([each.speed for each in plan], 100):
            out[some] = resample(rows[some], speed, 100)[..., :n_samples]
        for semitones, some in _groups([each.semitones for each in plan], 0):
            out[some] = pitch_shift(out[some], semitones)
        for _, some in _groups([each.filtered for each in plan], False):
            out[some] = _filter(out[some], [plan[row] for row in some])
        for _, some in _groups([each.compress is not None for each in plan], False):
            settings = [plan[row].compress or (0.0, 1.0) for row in some]
            out[some] = compress(out[some], *(out.new_tensor(values) for values in zip(*settings, strict=True)))
        for _, some in _groups([each.swap for each in plan], False):
            out[some] = out[some].flip(1)
        gains = out.new_tensor([-each.gain if each.flip else each.gain for each in plan])
        return (out * gains[:, None, None]).reshape(batch, n_sources, n_channels, n_samples)


@dataclass(frozen=True)
class _Plan:
    """What happens to one stem."""

    gain: float
    swap: bool
    flip: bool
    semitones: int
    speed: int
    bands: tuple[tuple[str, float, float, float], ...]
    cutoff_hz: float | None
    reverb: tuple[float, float, float, int] | None
    compress: tuple[float, float] | None

    @property
    def filtered(self) -> bool:
        return bool(self.bands or self.cutoff_hz or self.reverb)


class _Numbers:
    """Random numbers from 0 to 1, each with its own use, whatever is on."""

    def __init__(self, numbers: Sequence[float]) -> None:
        self.numbers = numbers

    def chance(self, place: int, probability: float) -> bool:
        return self.numbers[place] < probability

    def between(self, place: int, low: float, high: float) -> float:
        return low + (high - low) * self.numbers[place]

    def log_between(self, place: int, low: float, high: float) -> float:
        return float(low * (high / low) ** self.numbers[place])

    def one_of(self, place: int, choices: Sequence[int]) -> int:
        return choices[int(self.numbers[place] * len(choices))]


def _plan(numbers: Sequence[float], config: AugmentConfig) -> _Plan:
    given = _Numbers(numbers)
    most_db = config.eq_db
    bands = (
        ("low", given.log_between(8, 60, 300), 0.7, given.between(9, -most_db, most_db)),
        ("peak", given.log_between(10, 200, 6000), given.log_between(11, 0.5, 2), given.between(12, -most_db, most_db)),
        ("high", given.log_between(13, 2000, 12000), 0.7, given.between(14, -most_db, most_db)),
    )
    decay_s, delay_s = given.between(16, 0.2, _LONGEST_REVERB_S), given.between(17, 0.005, _LONGEST_DELAY_S)
    reverb = (decay_s, delay_s, given.between(18, -20, -6), int(2**53 * numbers[19]))
    squeeze = (given.between(21, -15, 0), given.between(22, 1.5, 6))
    return _Plan(
        gain=given.between(0, *config.gain),
        swap=given.chance(1, config.p_swap),
        flip=given.chance(2, config.p_flip),
        semitones=given.one_of(4, config.semitones) if given.chance(3, config.p_pitch) else 0,
        speed=given.one_of(6, config.speeds) if given.chance(5, config.p_speed) else 100,
        bands=bands if given.chance(7, config.p_eq) else (),
        reverb=reverb if given.chance(15, config.p_reverb) else None,
        compress=squeeze if given.chance(20, config.p_compress) else None,
        cutoff_hz=given.log_between(24, 8000, 16000) if given.chance(23, config.p_lowpass) else None,
    )


def _groups(values: Sequence[Any], untouched: Any) -> list[tuple[Any, list[int]]]:
    """Rows by value, without those that nothing is to be done to."""
    return [
        (value, [row for row, own in enumerate(values) if own == value])
        for value in sorted(set(values))
        if value != untouched
    ]


def _filter(signal: Float[Tensor, "row channel time"], plans: Sequence[_Plan]) -> Float[Tensor, "row channel time"]:
    """Equaliser, low-pass and reverberation as one product of spectra; what rings on past the end is cut."""
    n_samples = signal.shape[-1]
    tail = _FILTER_TAIL
    if any(plan.reverb for plan in plans):
        tail = max(tail, math.ceil((_LONGEST_REVERB_S + _LONGEST_DELAY_S) * SAMPLE_RATE))
    length = n_samples + tail
    length = -(-length // 4096) * 4096
    precise = torch.float32 if signal.device.type == "mps" else torch.float64
    frequency_hz = torch.fft.rfftfreq(length, 1 / SAMPLE_RATE, dtype=precise, device=signal.device)
    spectrum = torch.fft.rfft(signal, length)
    for _, some in _groups([bool(plan.bands) for plan in plans], False):
        spectrum[some] *= _equaliser([plans[row] for row in some], frequency_hz)[:, None]
    for _, some in _groups([plan.cutoff_hz is not None for plan in plans], False):
        cutoffs = frequency_hz.new_tensor([[plans[row].cutoff_hz or 0.0] for row in some])
        spectrum[some] *= lowpass_response(cutoffs, frequency_hz)[:, None].to(signal.dtype)
    for _, some in _groups([plan.reverb is not None for plan in plans], False):
        tails = [reverb_tail(*reverb, signal.shape[1]) for row in some if (reverb := plans[row].reverb)]
        longest = max(tail.shape[-1] for tail in tails)
        together = torch.stack([F.pad(tail, (0, longest - tail.shape[-1])) for tail in tails]).to(signal)
        spectrum[some] *= 1 + torch.fft.rfft(together, length)
    filtered: Tensor = torch.fft.irfft(spectrum, length)[..., :n_samples]
    return filtered


def _equaliser(plans: Sequence[_Plan], frequency_hz: Float[Tensor, " bin"]) -> Complex[Tensor, "row bin"]:
    """Product of the responses of all bands."""
    response = torch.ones(len(plans), len(frequency_hz), dtype=torch.complex64, device=frequency_hz.device)
    for band in zip(*(plan.bands for plan in plans), strict=True):
        kinds, *settings = zip(*band, strict=True)
        centre_hz, q, gain_db = (frequency_hz.new_tensor(values)[:, None] for values in settings)
        response *= biquad_response(kinds[0], centre_hz, q, gain_db, frequency_hz).to(response.dtype)
    return response
