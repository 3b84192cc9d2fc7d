"""Short-time Fourier transform and its inverse, for any leading axes.

Periodic Hann window, frames centred with reflect padding, no normalisation.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor


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


def istft(
    spec: Complex[Tensor, "*axes bin frame"], n_samples: int, n_fft: int = 4096, hop_length: int = 1024
) -> Float[Tensor, "*axes time"]:
    """The signal whose spectrum is nearest to `spec`, by weighted overlap-add.

    Args:
        spec: As `stft` gives it.
        n_samples: Samples to return; at most (frames - 1) * hop_length carry signal, the rest is zero.
        n_fft: Window and transform length, samples.
        hop_length: Samples from frame to frame.
    """
    window = torch.hann_window(n_fft, dtype=spec.real.dtype, device=spec.device)
    signal = torch.istft(spec.reshape(-1, *spec.shape[-2:]), n_fft, hop_length, window=window, length=n_samples)
    return signal.reshape(*spec.shape[:-2], n_samples)
