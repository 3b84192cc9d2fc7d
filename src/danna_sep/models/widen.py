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


class Widening:
    """Transposed convolution and the batch norm behind it, outside training, as one.

    Each quarter of the result, even or odd bins by even or odd frames, is a convolution with the taps that reach it: as
    many operations, in a third of the memory.

    Args:
        widen: Of an odd kernel, stride 2 and padding of half the kernel.
        norm: Its statistics stand still.
        dtype: Of the features.

    Attributes:
        lookback: Frames before its own that a result depends on; it depends on one behind in any case.
    """

    def __init__(self, widen: nn.ConvTranspose2d, norm: nn.BatchNorm2d, dtype: torch.dtype | None = None) -> None:
        dtype = dtype or widen.weight.dtype
        scale, shift = scale_and_shift(norm)
        self.shift = shift.to(dtype)
        taps = (widen.weight * scale[:, None, None]).to(dtype).transpose(0, 1).flip(-2, -1)
        reach = taps.shape[-1] // 2
        self.lookback = reach // 2
        self.taps = [[taps[..., (i + reach) % 2 :: 2, (j + reach) % 2 :: 2] for j in (0, 1)] for i in (0, 1)]

    def __call__(self, features: Features, n_even: int, n_odd: int) -> Features:
        """So many even and odd frames of the result; the features begin `lookback` frames earlier."""
        n_bins, before = 2 * features.shape[-2] - 1, self.lookback
        shape = (len(features), len(self.shift), n_bins, n_even + n_odd)
        widened = torch.empty(shape, dtype=features.dtype, device=features.device, memory_format=torch.channels_last)
        # All frames are convolved and some results left out, for a part of the frames would have to be copied.
        wanted = slice(n_even), slice(before, before + n_odd)
        for bin_parity, rows in enumerate(self.taps):
            for frame_parity, taps in enumerate(rows):
                quarter = widened[..., bin_parity::2, frame_parity::2]
                if quarter.numel():
                    bins = taps.shape[-2] // 2 if taps.shape[-2] % 2 else 0
                    convolved = F.conv2d(features, taps, self.shift, padding=(bins, 0))
                    quarter.copy_(convolved[..., wanted[frame_parity]])
        return widened


def widen_and_norm(widen: nn.ConvTranspose2d, norm: nn.BatchNorm2d, features: Features) -> Features:
    """norm(widen(features)) for an odd kernel, stride 2 and padding of half the kernel."""
    if norm.training:
        return norm(_widen_in_training(widen, features))  # type: ignore[no-any-return]
    widening = Widening(widen, norm, features.dtype)
    n_frames = features.shape[-1]
    if widening.lookback:
        features = F.pad(features, (widening.lookback, widening.lookback))
    return widening(features, n_frames, n_frames - 1)
