"""What a mixing desk does: equaliser, low-pass and reverberation as responses, compression as a function of time."""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

from danna_sep.types import SAMPLE_RATE

_LEVEL_HOP: Final = 64


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


def reverb_tail(
    decay_s: float, delay_s: float, level_db: float, seed: int, n_channels: int
) -> Float[Tensor, "channel tap"]:
    """Noise that falls by 60 dB in `decay_s`, its own in each channel, of the energy `level_db`."""
    n_delay, n_taps = round(delay_s * SAMPLE_RATE), round(decay_s * SAMPLE_RATE)
    noise = torch.randn(n_channels, n_taps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noise = noise * 10 ** (-3 * torch.arange(n_taps, dtype=torch.float64) / n_taps)
    noise = noise / noise.square().sum(1, keepdim=True).sqrt()
    return F.pad(10 ** (level_db / 20) * noise, (n_delay, 0))


def biquad_response(
    kind: str,
    centre_hz: Float[Tensor, "row 1"],
    q: Float[Tensor, "row 1"],
    gain_db: Float[Tensor, "row 1"],
    frequency_hz: Float[Tensor, " bin"],
) -> Complex[Tensor, "row bin"]:
    """Frequency responses of shelves or peaks of second order.

    Reference: R. Bristow-Johnson, "Cookbook formulae for audio EQ biquad filter coefficients".

    Args:
        kind: "low" or "high" for a shelf, "peak".
        centre_hz: The peak's frequency, or where a shelf has half its gain in dB.
        q: Sharpness.
        gain_db: Of the peak, or of the shelf.
        frequency_hz: Where to give the response.
    """
    a, omega = 10 ** (gain_db / 40), 2 * math.pi * centre_hz / SAMPLE_RATE
    alpha, cosine = torch.sin(omega) / (2 * q), torch.cos(omega)
    if kind == "peak":
        above = (1 + alpha * a, -2 * cosine, 1 - alpha * a)
        below = (1 + alpha / a, -2 * cosine, 1 - alpha / a)
    else:
        sign, root = (1 if kind == "low" else -1), 2 * a.sqrt() * alpha
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

    def polynomial(of_zero: Tensor, of_one: Tensor, of_two: Tensor) -> Tensor:
        return of_zero + of_one * delay + of_two * delay**2

    return polynomial(*above) / polynomial(*below)


def lowpass_response(
    cutoff_hz: Float[Tensor, "row 1"], frequency_hz: Float[Tensor, " bin"]
) -> Float[Tensor, "row bin"]:
    """A raised cosine over 10 % of the frequency: short enough in time."""
    place = ((frequency_hz / cutoff_hz - 0.95) / 0.1).clamp(0, 1)
    return 0.5 + 0.5 * torch.cos(math.pi * place)
