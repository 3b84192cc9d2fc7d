"""Pitch without tempo, and tempo without pitch."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from danna_sep.signal.resample import resample
from danna_sep.signal.stft import istft, stft

_N_FFT: Final = 2048
_HOP_LENGTH: Final = 512


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
