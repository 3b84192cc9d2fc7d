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
from fractions import Fraction
from typing import Any, Final

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Int
from torch import Tensor

from danna_sep.errors import ConfigError
from danna_sep.signal.resample import resample
from danna_sep.signal.stft import istft, stft
from danna_sep.types import SAMPLE_RATE

_N_NUMBERS: Final = 32
"""Random numbers per stem: more than are used, so that new options change nothing for old ones."""

_N_FFT: Final = 2048
_HOP_LENGTH: Final = 512
_FILTER_TAIL: Final = 8192
_LONGEST_REVERB_S: Final = 1.2
_LONGEST_DELAY_S: Final = 0.03
_LEVEL_HOP: Final = 64


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


def pitch_shift(signal: Float[Tensor, "*axes channel time"], semitones: int) -> Float[Tensor, "*axes channel time"]:
    """The signal with all frequencies multiplied by 2^(semitones / 12), as long and as loud as before.

    Stretched in time by that ratio, or the fraction nearest to it, and played as much faster. What the stretching takes
    from the level (2 to 3 dB of drums) is given back, up to 6 dB.
    """
    ratio = Fraction(2 ** (semitones / 12)).limit_denominator(100)
    n_samples = signal.shape[-1]
    n_stretched = -(-n_samples * ratio.numerator // ratio.denominator)
    shifted = resample(time_stretch(signal, n_stretched), ratio.numerator, ratio.denominator)
    power, shifted_power = (each.square().mean((-2, -1), keepdim=True) for each in (signal, shifted))
    gain = (power / shifted_power.clamp(min=torch.finfo(power.dtype).tiny)).sqrt().clamp(max=2)
    return F.pad(gain * shifted, (0, n_samples - shifted.shape[-1]))


def time_stretch(
    signal: Float[Tensor, "*axes channel time"], n_samples: int
) -> Float[Tensor, "*axes channel new_time"]:
    """The signal slower or faster at the same pitch, by a phase vocoder.

    Between frames read at the new tempo, phases advance as they do between frames of the signal. What is added to
    the phase of a bin is the same for all channels, so that differences of phase between them, by which stereo is
    heard, are left as they are; and the same for all bins around a peak, so that they go on to make one tone.

    Reference: J. Laroche, M. Dolson, "Improved phase vocoder time-scale modification of audio", IEEE Transactions on
    Speech and Audio Processing 7(3), 1999: identity phase locking.

    Differs: a peak's phase goes on from that of its own bin, not from that of the peak it came from. So all frames are
    computed at once.

    Args:
        signal: More than 1024 samples.
        n_samples: Length wanted.
    """
    spec = stft(signal, _N_FFT, _HOP_LENGTH)
    last = spec.shape[-1] - 1
    advance = (spec[..., 1:] * spec[..., :-1].conj()).sum(-3, keepdim=True).angle()
    so_far = F.pad(advance.cumsum(-1), (1, 0))
    n_frames = 1 + n_samples // _HOP_LENGTH
    places = torch.arange(n_frames, device=spec.device) * (signal.shape[-1] / n_samples)
    before, nearest = places.long().clamp(max=last - 1), places.round().long().clamp(max=last)
    share = (places - before).clamp(max=1)
    turned = F.pad(advance[..., before[:-1]].cumsum(-1), (1, 0)) - so_far[..., nearest]
    magnitude = spec.abs()
    peak = _nearest_peak(magnitude.sum(-3, keepdim=True))[..., nearest]
    turned = turned.gather(-2, peak)
    wanted = torch.lerp(magnitude[..., before], magnitude[..., before + 1], share)
    unit = spec[..., nearest] / magnitude[..., nearest].clamp(min=torch.finfo(magnitude.dtype).tiny)
    return istft(unit * torch.polar(wanted, turned.expand_as(wanted)), n_samples, _N_FFT, _HOP_LENGTH)


def _nearest_peak(magnitude: Float[Tensor, "*axes bin frame"]) -> Int[Tensor, "*axes bin frame"]:
    """For each bin the nearest that is no smaller than two neighbours on either side."""
    n_bins = magnitude.shape[-2]
    rows = magnitude.reshape(-1, 1, *magnitude.shape[-2:])
    is_peak = (rows >= F.max_pool2d(rows, (5, 1), 1, (2, 0))).reshape(magnitude.shape)
    bins = torch.arange(n_bins, device=magnitude.device)[:, None]
    below = torch.where(is_peak, bins, -n_bins).cummax(-2).values
    above = torch.where(is_peak, bins, 2 * n_bins).flip(-2).cummin(-2).values.flip(-2)
    return torch.where(bins - below <= above - bins, below, above)


def compress(
    signal: Float[Tensor, "row channel time"], threshold_db: Float[Tensor, " row"], ratio: Float[Tensor, " row"]
) -> Float[Tensor, "row channel time"]:
    """Feed-forward compression: above the threshold, the level rises 1 / ratio as much; both channels by one gain.

    Args:
        signal: The rows.
        threshold_db: In relation to the row's own root mean square.
        ratio: At least 1.

    Returns:
        With the root mean square that the rows had.
    """
    n_samples = signal.shape[-1]
    power = signal.square().mean(1, keepdim=True)
    overall = power.mean(-1, keepdim=True).clamp(min=1e-20)
    window = 8 * _LEVEL_HOP
    level = F.avg_pool1d(F.pad(power, (window // 2, window // 2 + _LEVEL_HOP)), window, _LEVEL_HOP)
    level_db = 10 * torch.log10(level / overall + 1e-10)
    over_db = (level_db - threshold_db[:, None, None]).clamp(min=0)
    release = torch.exp(-torch.arange(64, device=signal.device, dtype=signal.dtype) / 16)  # 16 hops of 64: 23 ms
    over_db = F.conv1d(F.pad(over_db, (63, 0)), (release / release.sum()).flip(0)[None, None])
    gain_db = -over_db * (1 - 1 / ratio)[:, None, None]
    gain = F.interpolate(10 ** (gain_db / 20), scale_factor=float(_LEVEL_HOP), mode="linear")[..., :n_samples]
    quieter = signal * gain
    return quieter * (overall / quieter.square().mean((1, 2), keepdim=True).clamp(min=1e-20)).sqrt()


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
    frequency_hz = torch.fft.rfftfreq(length, 1 / SAMPLE_RATE, dtype=torch.float64)
    responses = torch.stack([_response(plan, frequency_hz, signal.shape[1], length) for plan in plans])
    spectrum = torch.fft.rfft(signal, length) * responses.to(signal.device)
    filtered: Tensor = torch.fft.irfft(spectrum, length)[..., :n_samples]
    return filtered


def _response(plan: _Plan, frequency_hz: Tensor, n_channels: int, length: int) -> Complex[Tensor, "channel bin"]:
    response = torch.ones(n_channels, frequency_hz.shape[0], dtype=torch.complex128)
    for kind, centre_hz, q, gain_db in plan.bands:
        response = response * biquad_response(kind, centre_hz, q, gain_db, frequency_hz)
    if plan.cutoff_hz is not None:
        # A raised cosine over 10 % of the frequency: short enough in time.
        place = ((frequency_hz / plan.cutoff_hz - 0.95) / 0.1).clamp(0, 1)
        response = response * (0.5 + 0.5 * torch.cos(math.pi * place))
    if plan.reverb is not None:
        response = response * (1 + torch.fft.rfft(_reverb_tail(*plan.reverb, n_channels), length))
    return response.to(torch.complex64)


def _reverb_tail(
    decay_s: float, delay_s: float, level_db: float, seed: int, n_channels: int
) -> Float[Tensor, "channel tap"]:
    """Noise that falls by 60 dB in `decay_s`, its own in each channel, of the energy `level_db`."""
    n_delay, n_taps = round(delay_s * SAMPLE_RATE), round(decay_s * SAMPLE_RATE)
    noise = torch.randn(n_channels, n_taps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noise = noise * 10 ** (-3 * torch.arange(n_taps, dtype=torch.float64) / n_taps)
    noise = noise / noise.square().sum(1, keepdim=True).sqrt()
    return F.pad(10 ** (level_db / 20) * noise, (n_delay, 0))


def biquad_response(
    kind: str, centre_hz: float, q: float, gain_db: float, frequency_hz: Float[Tensor, " bin"]
) -> Complex[Tensor, " bin"]:
    """Frequency response of a shelf or peak of second order.

    Reference: R. Bristow-Johnson, "Cookbook formulae for audio EQ biquad filter coefficients".

    Args:
        kind: "low" or "high" for a shelf, "peak".
        centre_hz: The peak's frequency, or where a shelf has half its gain in dB.
        q: Sharpness.
        gain_db: Of the peak, or of the shelf.
        frequency_hz: Where to give the response.
    """
    a, omega = 10 ** (gain_db / 40), 2 * math.pi * centre_hz / SAMPLE_RATE
    alpha, cosine = math.sin(omega) / (2 * q), math.cos(omega)
    if kind == "peak":
        above = (1 + alpha * a, -2 * cosine, 1 - alpha * a)
        below = (1 + alpha / a, -2 * cosine, 1 - alpha / a)
    else:
        sign, root = (1 if kind == "low" else -1), 2 * math.sqrt(a) * alpha
        above = (
            a * (a + 1 - sign * (a - 1) * cosine + root),
            sign * 2 * a * (a - 1 - sign * (a + 1) * cosine),
            a * (a + 1 - sign * (a - 1) * cosine - root),
        )
        below = (
            a + 1 + sign * (a - 1) * cosine + root,
            -sign * 2 * (a - 1 + sign * (a + 1) * cosine),
            a + 1 + sign * (a - 1) * cosine - root,
        )
    delay = torch.polar(torch.ones_like(frequency_hz), -2 * math.pi * frequency_hz / SAMPLE_RATE)

    def polynomial(of_zero: float, of_one: float, of_two: float) -> Tensor:
        return of_zero + of_one * delay + of_two * delay**2

    return polynomial(*above) / polynomial(*below)
