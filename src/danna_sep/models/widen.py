"""Transposed convolution of stride 2 and batch norm, as one where the norm's statistics stand still."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danna_sep.models.convolution import Convolution
from danna_sep.shapes import Features, FramedFeatures


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

    Each quarter of the result, even or odd rows by even or odd columns, is a convolution with the taps that reach it:
    as many operations, in a third of the memory.

    Args:
        weight: Axes input, output, row, column: of an odd kernel, stride 2 and padding of half the kernel.
        norm: Its statistics stand still.
        dtype: Of the features.
        rectify: Whether negative results become zero.

    Attributes:
        lookback: Rows before its own that a result depends on; it depends on one behind in any case.
    """

    def __init__(
        self, weight: Tensor, norm: nn.BatchNorm2d, dtype: torch.dtype | None = None, *, rectify: bool = False
    ) -> None:
        dtype = dtype or weight.dtype
        scale, shift = scale_and_shift(norm)
        taps = (weight * scale[:, None, None]).to(dtype).transpose(0, 1).flip(-2, -1)
        self.lookback = taps.shape[-1] // 4
        self._convolutions = [[_quarter(taps, shift.to(dtype), i, j, rectify) for j in (0, 1)] for i in (0, 1)]

    def quarters(self, features: FramedFeatures, n_even: int, n_odd: int) -> list[list[FramedFeatures]]:
        """Even and odd rows of the result, even and odd columns of each by themselves.

        Args:
            features: They begin `lookback` rows earlier.
            n_even: So many even rows.
            n_odd: So many odd ones.
        """
        before = self.lookback
        rows = features[:, :, : n_even + 2 * before], features[:, :, before : before + n_odd + 1]
        return [[convolve(heard) for convolve in pair] for heard, pair in zip(rows, self._convolutions, strict=True)]

    def __call__(self, features: FramedFeatures, n_even: int, n_odd: int) -> FramedFeatures:
        """The same with even and odd ones taking turns."""
        return interleaved(self.quarters(features, n_even, n_odd))


def _quarter(taps: Tensor, shift: Tensor, i: int, j: int, rectify: bool) -> Convolution:
    reach = taps.shape[-1] // 2
    some = taps[..., (i + reach) % 2 :: 2, (j + reach) % 2 :: 2]
    return Convolution(some, shift, bin_padding=some.shape[-1] // 2 if some.shape[-1] % 2 else 0, rectify=rectify)


def interleaved(quarters: list[list[Tensor]]) -> Tensor:
    """Even and odd rows by even and odd columns, taking turns."""
    n_rows = sum(pair[0].shape[2] for pair in quarters)
    n_columns = sum(each.shape[3] for each in quarters[0])
    first = quarters[0][0]
    shape = (*first.shape[:2], n_rows, n_columns)
    whole = torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=torch.channels_last)
    for i, pair in enumerate(quarters):
        for j, quarter in enumerate(pair):
            whole[:, :, i::2, j::2] = quarter
    return whole


def widen_and_norm(widen: nn.ConvTranspose2d, norm: nn.BatchNorm2d, features: Features) -> Features:
    """norm(widen(features)) for an odd kernel, stride 2 and padding of half the kernel."""
    if norm.training or torch.is_grad_enabled():  # the quarters' weights have no gradients
        return norm(_widen_in_training(widen, features))  # type: ignore[no-any-return]
    widening = Widening(widen.weight, norm, features.dtype)
    n_bins = features.shape[2]
    if widening.lookback:
        features = F.pad(features, (0, 0, widening.lookback, widening.lookback))
    return widening(features, n_bins, n_bins - 1)
