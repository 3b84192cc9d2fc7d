"""Short-time Fourier transform and its inverse, for any leading axes.

Periodic Hann window, frames centred with reflect padding, no normalisation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

_LEAST = 1e-11
"""Sum of squared windows from which on a sample is known."""


def stft(
    signal: Float[Tensor, "*axes time"], n_fft: int = 4096, hop_length: int = 1024
) -> Complex[Tensor, "*axes bin frame"]:
    """Complex spectrum of `signal`.

    Args:
        signal: Real samples, more than n_fft / 2 of them (the reflection needs that many).
        n_fft: Window and transform length, samples.
        hop_length: Samples from frame to frame.

    Returns:
        n_fft / 2 + 1 bins and 1 + floor(time / hop_length) frames.
    """
    window = torch.hann_window(n_fft, dtype=signal.dtype, device=signal.device)
    spec = torch.stft(signal.reshape(-1, signal.shape[-1]), n_fft, hop_length, window=window, return_complex=True)
    return spec.reshape(*signal.shape[:-1], *spec.shape[-2:])


def magnitude_of(spec: Complex[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """Absolute values.

    Where no slope is asked for, as roots of powers, in a third of the time: what is below 1e-19 is then nothing. Powers
    that overflow are not used.
    """
    if not spec.requires_grad and spec.numel():
        power = torch.addcmul(spec.real.square(), spec.imag, spec.imag)
        if bool(power.amax().isfinite()):
            return power.sqrt_()
    return spec.abs()


def istft(
    spec: Complex[Tensor, "*axes bin frame"], n_samples: int, n_fft: int = 4096, hop_length: int = 1024
) -> Float[Tensor, "*axes time"]:
    """The signal whose spectrum is nearest to `spec`, by weighted overlap-add.

    Args:
        spec: As `stft` gives it.
        n_samples: Samples to return; those that no window reaches are zero.
        n_fft: Window and transform length, samples.
        hop_length: Samples from frame to frame.
    """
    window = torch.hann_window(n_fft, dtype=spec.real.dtype, device=spec.device)
    if n_fft % hop_length:
        signal = torch.istft(spec.reshape(-1, *spec.shape[-2:]), n_fft, hop_length, window=window, length=n_samples)
        return signal.reshape(*spec.shape[:-2], n_samples)
    frames = torch.fft.irfft(spec.transpose(-1, -2), n_fft)
    frames = frames * window if frames.requires_grad else frames.mul_(window)
    total = _overlap_add(window.square().expand(spec.shape[-1], n_fft), hop_length)[n_fft // 2 :]
    signal = _overlap_add(frames, hop_length)[..., n_fft // 2 :]
    share = torch.where(total > _LEAST, 1 / total, 0)
    signal = signal * share if signal.requires_grad else signal.mul_(share)
    n_missing = n_samples - signal.shape[-1]
    return F.pad(signal, (0, n_missing)) if n_missing > 0 else signal[..., :n_samples]


def _overlap_add(frames: Float[Tensor, "*axes _frame sample"], hop_length: int) -> Float[Tensor, "*axes _time"]:
    """Frames that begin one hop after the other, added up; their length is a multiple of the hop."""
    n_frames, n_hops = frames.shape[-2], frames.shape[-1] // hop_length
    by_hop = frames.unflatten(-1, (n_hops, hop_length))
    total = frames.new_zeros(*frames.shape[:-2], n_frames + n_hops - 1, hop_length)
    for hop in range(n_hops):
        total[..., hop : hop + n_frames, :] += by_hop[..., hop, :]
    return total.flatten(-2)
