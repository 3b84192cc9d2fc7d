"""Transposed convolution of stride 2 and batch norm, as one where the norm's statistics stand still."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danna_sep.models.convolution import Convolution
from danna_sep.shapes import Features, FramedFeatures

Quarters: TypeAlias = Sequence[Sequence[FramedFeatures]]
"""Even and odd rows, even and odd columns of each."""


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
        dtype: Of weights and biases as `convolution` gets them; that of `weight`, if not given.
        rectify: Whether negative results become zero.
        convolution: What computes each quarter.

    Attributes:
        n_outputs: Features of the result.
        border: Bins of zeros that features come with on either side.
        lookback: Rows before its own that a result depends on; it depends on one behind in any case.
    """

    def __init__(
        self,
        weight: Tensor,
        norm: nn.BatchNorm2d,
        dtype: torch.dtype | None = None,
        *,
        rectify: bool = False,
        convolution: type[Convolution] = Convolution,
    ) -> None:
        dtype = dtype or weight.dtype
        taps, shift = combined(weight, norm)
        self.border = convolution.border
        self.n_outputs, self.lookback = len(taps), taps.shape[-1] // 4
        self._convolutions = [
            [_quarter(taps.to(dtype), shift.to(dtype), i, j, rectify, convolution) for j in (0, 1)] for i in (0, 1)
        ]

    def into(self, quarters: Quarters, features: FramedFeatures) -> None:
        """Write the results.

        Args:
            quarters: Where to: even and odd rows, even and odd columns of each.
            features: They begin `lookback` rows earlier.
        """
        for i, (pair, places) in enumerate(zip(self._convolutions, quarters, strict=True)):
            heard = self._heard(features, i, places[0].shape[2])
            for convolve, place in zip(pair, places, strict=True):
                place.copy_(convolve(heard))

    def _heard(self, features: FramedFeatures, i: int, n_rows: int) -> FramedFeatures:
        """What so many even (0) or odd (1) rows depend on."""
        first, n_more = (self.lookback, 1) if i else (0, 2 * self.lookback)
        return features[:, :, first : first + n_rows + n_more]

    def __call__(self, features: FramedFeatures, n_even: int, n_odd: int) -> FramedFeatures:
        """The results.

        Args:
            features: See `into`.
            n_even: So many even rows.
            n_odd: So many odd ones.
        """
        n_bins = features.shape[3] - 2 * self.border
        shape = (len(features), n_even + n_odd, 2 * n_bins - 1, self.n_outputs)
        whole = features.new_empty(shape).permute(0, 3, 1, 2)
        self.into([[whole[:, :, i::2, j::2] for j in (0, 1)] for i in (0, 1)], features)
        return whole


def combined(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight, for features as they are and not transposed, and bias of transposed convolution and norm, not rounded."""
    scale, shift = scale_and_shift(norm)
    return (weight * scale[:, None, None]).transpose(0, 1).flip(-2, -1), shift


def _quarter(taps: Tensor, shift: Tensor, i: int, j: int, rectify: bool, convolution: type[Convolution]) -> Convolution:
    reach = taps.shape[-1] // 2
    some = taps[..., (i + reach) % 2 :: 2, (j + reach) % 2 :: 2]
    return convolution(some, shift, bin_padding=some.shape[-1] // 2 if some.shape[-1] % 2 else 0, rectify=rectify)


def widen_and_norm(widen: nn.ConvTranspose2d, norm: nn.BatchNorm2d, features: Features) -> Features:
    """norm(widen(features)) for an odd kernel, stride 2 and padding of half the kernel."""
    if norm.training or torch.is_grad_enabled():  # the quarters' weights have no gradients
        return norm(_widen_in_training(widen, features))  # type: ignore[no-any-return]
    widening = Widening(widen.weight, norm, features.dtype)
    n_bins = features.shape[2]
    if widening.lookback:
        features = F.pad(features, (0, 0, widening.lookback, widening.lookback))
    return widening(features, n_bins, n_bins - 1)
