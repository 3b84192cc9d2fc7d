"""Convolutions of features in whole steps, of eight bits.

Their products and sums are of whole numbers, and exact. A CPU that has instructions for them does twice as many as
of bfloat16 numbers, and four times as many as in single precision.
"""

from __future__ import annotations

from functools import cache
from typing import cast

import torch
from torch import Tensor, nn

from danna_sep.models.bordered import BorderedConvolution, bordered
from danna_sep.models.widen import Widening
from danna_sep.shapes import FramedFeatures

MOST = 255
"""Steps that features are counted to."""
_MOST_WEIGHT = 127


class EightBitConvolution(BorderedConvolution):
    """As `BorderedConvolution`, with weights rounded to eight bits and a scale for each output.

    Right where such products are summed in 32 bits alone: see `sums_exactly`.

    Args:
        weight: Of features in whole steps; see `Convolution`.
        bias: Of each output.
        dilation: Of both axes.
        bin_padding: See `Convolution`.
        rectify: Whether negative results become zero.
        gives: Type of the results; torch.uint8 rounds them to whole steps, no more than 255, none negative.
    """

    hears = torch.uint8

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        dilation: int = 1,
        bin_padding: int | None = None,
        *,
        rectify: bool = False,
        gives: torch.dtype = torch.uint8,
    ) -> None:
        bias = None if bias is None else bias.float()
        super().__init__(weight.float(), bias, dilation, bin_padding, rectify=rectify)
        self._gives, weight = gives, self._dense_weight()
        largest = weight.abs().amax((1, 2, 3))
        self._scale = largest.clamp(min=torch.finfo(torch.float32).tiny * 2**8) / _MOST_WEIGHT
        self._whole = (weight / self._scale[:, None, None, None]).round_().to(torch.int8)
        self._no_offset = torch.zeros(len(weight), dtype=torch.int32)
        self._plain = None  # lets go of those that are not rounded

    def _convolved(self, features: FramedFeatures, rectify: bool) -> FramedFeatures:
        convolve = torch.ops.onednn.qconv2d_pointwise
        weights = self._weight_for(features), self._scale, self._no_offset, self._bias
        unary = "relu" if rectify else "none"
        geometry = self._in_order()
        given = cast("Tensor", convolve(features, 1.0, 0, *weights, *geometry, 1.0, 0, self._gives, unary, [], ""))
        return self._inner(given)

    def _in_order(self) -> tuple[list[int], tuple[int, int], list[int], int]:
        """Stride, padding, dilation and groups, as these operators take them."""
        _, padding, stride, dilation, groups = self._geometry()
        return stride, padding, dilation, groups

    def _lay_out(self, shape: torch.Size) -> Tensor:
        prepack, geometry = torch.ops.onednn.qconv_prepack, (*self._in_order(), list(shape))
        return cast("Tensor", prepack(self._whole, self._scale, 1.0, 0, *geometry))


def widening_of_steps(weight: Tensor, norm: nn.BatchNorm2d) -> Widening:
    """A `Widening` from whole steps to whole steps, rectified."""
    return Widening(weight, norm, torch.float32, rectify=True, convolution=EightBitConvolution)


def in_whole_steps(features: FramedFeatures) -> FramedFeatures:
    """Features, none negative, to the nearest step, in eight bits; what is beyond them is the most they can be."""
    return write_features(torch.empty_like(features, dtype=torch.uint8), features)


def write_features(place: FramedFeatures, features: FramedFeatures) -> FramedFeatures:
    """Write features; where the place is of eight bits, see `in_whole_steps`."""
    if place.dtype == torch.uint8 != features.dtype:
        # Rounded first: in bfloat16 half a step more than 129 is 130.
        features = features.round().clamp_(max=MOST)
    return place.copy_(features)


@cache
def sums_exactly() -> bool:
    """Whether PyTorch has oneDNN's operators of eight bits, which are not public, as they are used here; and are exact.

    Where the processor has no instructions for them, or oneDNN is told not to use them, it adds up products of two
    features in sixteen bits, which the largest overflow.
    """
    heard = bordered((1, 2, 1, 1), torch.uint8, torch.device("cpu")).fill_(MOST)
    try:
        given = EightBitConvolution(torch.full((1, 2, 1, 1), 0.5), None, gives=torch.float32)(heard)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return abs(float(given) - MOST) < 0.01
