"""Convolutions of features in whole steps of eight bits.

Their products and sums are of whole numbers, and exact. A CPU that has instructions for them does twice as many as
of bfloat16 numbers, and four times as many as in single precision.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from danna_sep.models.convolution import Convolution
from danna_sep.shapes import FramedFeatures

MOST = 255
"""Steps that features are counted to."""
_OPERATORS = ("qconv2d_pointwise", "qconv_prepack")


class EightBitConvolution(Convolution):
    """As `Convolution`, with weights rounded to eight bits and a scale for each output.

    Args:
        weight: Of features in steps; see `Convolution`.
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
        largest = weight.detach().float().abs().amax((1, 2, 3))
        self._scale = largest.clamp(min=torch.finfo(torch.float32).tiny * 2**8) / 127
        whole = (weight.detach().float() / self._scale[:, None, None, None]).round_().to(torch.int8)
        super().__init__(whole, bias if bias is None else bias.float(), dilation, bin_padding, rectify=rectify)
        self._whole = whole
        self._gives = gives
        self._no_offset = torch.zeros(len(whole), dtype=torch.int32)

    def _convolved(self, features: FramedFeatures, rectify: bool) -> FramedFeatures:
        bias, padding, stride, dilation, groups = self._geometry()
        shape, weight = self._laid_out
        if features.shape != shape:
            prepack = torch.ops.onednn.qconv_prepack
            geometry = (stride, padding, dilation, groups)
            weight = prepack(self._whole, self._scale, 1.0, 0, *geometry, list(features.shape))
            self._laid_out = features.shape, weight
        convolve = torch.ops.onednn.qconv2d_pointwise
        weights = (weight, self._scale, self._no_offset, bias)
        geometry = (stride, padding, dilation, groups)
        unary = "relu" if rectify else "none"
        return cast("Tensor", convolve(features, 1.0, 0, *weights, *geometry, 1.0, 0, self._gives, unary, [], ""))


def rounded(features: Tensor) -> Tensor:
    """Features, which are not negative, to whole steps, in eight bits; what is beyond them is the most they can be."""
    if features.dtype == torch.uint8:
        return features
    return (features + 0.5).clamp_(max=MOST).to(torch.uint8)


def has_operators() -> bool:
    """Whether PyTorch has oneDNN's operators of eight bits here, which are not public."""
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.onednn, name) for name in _OPERATORS)
