"""Transposed convolution of stride 2 and batch norm, as one where the norm's statistics stand still."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danna_sep.shapes import Features


def scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What batch norm does to each channel outside training: times the first, plus the second."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _widen_in_training(widen: nn.ConvTranspose2d, features: Features) -> Features:
    """widen(features), but for a single frame in single precision on a CPU.

    In bfloat16 oneDNN then computes the gradient of the weights from memory that nobody has written (seen with
    PyTorch 2.13.0).
    """
    if features.shape[-1] == 1 and features.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return widen(features.to(widen.weight.dtype))  # type: ignore[no-any-return]
    return widen(features)  # type: ignore[no-any-return]


def widen_and_norm(widen: nn.ConvTranspose2d, norm: nn.BatchNorm2d, features: Features) -> Features:
    """norm(widen(features)) for an odd kernel, stride 2 and padding of half the kernel.

    Outside training each quarter of the result, even or odd bins by even or odd frames, is a convolution with the taps
    that reach it: as many operations, in a third of the memory.
    """
    if norm.training:
        return norm(_widen_in_training(widen, features))  # type: ignore[no-any-return]
    scale, shift = scale_and_shift(norm)
    shift = shift.to(features.dtype)
    taps = (widen.weight * scale[:, None, None]).to(features.dtype).transpose(0, 1).flip(-2, -1)
    n_bins, n_frames = (2 * size - 1 for size in features.shape[-2:])
    shape = (len(features), len(shift), n_bins, n_frames)
    widened = torch.empty(shape, dtype=features.dtype, device=features.device, memory_format=torch.channels_last)
    reach = taps.shape[-1] // 2
    for bin_parity in (0, 1):
        for frame_parity in (0, 1):
            reaching = taps[..., (bin_parity + reach) % 2 :: 2, (frame_parity + reach) % 2 :: 2]
            padding = [size // 2 if size % 2 else 0 for size in reaching.shape[-2:]]
            quarter = widened[..., bin_parity::2, frame_parity::2]
            if quarter.numel():
                quarter.copy_(F.conv2d(features, reaching, shift, padding=padding))
    return widened
