"""Convolutions of features in whole steps, of eight bits.

Their products and sums are of whole numbers, and exact. A CPU that has instructions for them does twice as many as
of bfloat16 numbers, and four times as many as in single precision.
"""

from __future__ import annotations

from functools import cache
from typing import NoReturn, cast

import torch
from torch import Tensor, nn

from danna_sep.models.convolution import Convolution
from danna_sep.models.widen import Widening
from danna_sep.shapes import FramedFeatures

MOST = 255
"""Steps that features are counted to."""
_MOST_WEIGHT = 127


class EightBitConvolution(Convolution):
    """As `Convolution`, with weights rounded to eight bits and a scale for each output.

    Right where such products are summed in 32 bits alone: see `sums_exactly`.

    Args:
        weight: Of features in whole steps; see `Convolution`.
        bias: Of each output.
        dilation: Of both axes.
        bin_padding: See `Convolution`.
        rectify: Whether negative results become zero.
        gives: Type of the results; torch.uint8 rounds them to whole steps, no more than 255, none negative.
    """

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
        weight = weight.detach().float()
        largest = weight.abs().amax((1, 2, 3))
        self._scale = largest.clamp(min=torch.finfo(torch.float32).tiny * 2**8) / _MOST_WEIGHT
        self._whole = (weight / self._scale[:, None, None, None]).round_().to(torch.int8)
        self._no_offset = torch.zeros(len(weight), dtype=torch.int32)
        super().__init__(self._whole, None if bias is None else bias.float(), dilation, bin_padding, rectify=rectify)
        self._gives = gives

    def onto(self, total: FramedFeatures, features: FramedFeatures) -> NoReturn:
        """Not here: oneDNN copies what it is to add to, and whole steps have lost what is negative."""
        raise TypeError("what is convolved in whole steps is not added to a sum")

    def _convolved(self, features: FramedFeatures, rectify: bool) -> FramedFeatures:
        bias, padding, stride, dilation, groups = self._geometry()
        geometry = (stride, padding, dilation, groups)
        shape, weight = self._laid_out
        if features.shape != shape:
            prepack = torch.ops.onednn.qconv_prepack
            weight = prepack(self._whole, self._scale, 1.0, 0, *geometry, list(features.shape))
            self._laid_out = features.shape, weight
        convolve = torch.ops.onednn.qconv2d_pointwise
        weights, unary = (weight, self._scale, self._no_offset, bias), "relu" if rectify else "none"
        given = convolve(features, 1.0, 0, *weights, *geometry, 1.0, 0, self._gives, unary, [], "")
        return cast("Tensor", given)


def widening_of_steps(weight: Tensor, norm: nn.BatchNorm2d) -> Widening:
    """A `Widening` from whole steps to whole steps, rectified."""
    return Widening(weight, norm, torch.float32, rectify=True, convolution=EightBitConvolution)


def in_whole_steps(features: FramedFeatures) -> FramedFeatures:
    """Features, none negative, to the nearest step, in eight bits; what is beyond them is the most they can be."""
    if features.dtype == torch.uint8:
        return features
    # Rounded first: in bfloat16 half a step more than 129 is 130.
    return features.round().clamp_(max=MOST).to(torch.uint8)


@cache
def sums_exactly() -> bool:
    """Whether PyTorch has oneDNN's operators of eight bits, which are not public, as they are used here; and are exact.

    Where the processor has no instructions for them, or oneDNN is told not to use them, it adds up products of two
    features in sixteen bits, which the largest overflow.
    """
    heard = torch.full((1, 2, 1, 1), MOST, dtype=torch.uint8)
    try:
        given = EightBitConvolution(torch.full((1, 2, 1, 1), 0.5), None, gives=torch.float32)(heard)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return abs(float(given) - MOST) < 0.01
