"""Convolutions of features in whole steps, of eight bits.

Their products and sums are of whole numbers, and exact. A CPU that has instructions for them does twice as many as
of bfloat16 numbers, and four times as many as in single precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NoReturn, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danna_sep.models.convolution import Convolution
from danna_sep.models.processor import has_tiles, has_wide_vectors
from danna_sep.models.widen import Widening
from danna_sep.shapes import FramedFeatures

MOST = 255
"""Steps that features are counted to."""
BORDER = 1
"""Bins of zeros below the lowest and above the highest, where features in whole steps are to be convolved."""
_MOST_WEIGHT = 127
_N_LAID_OUT = 4
"""Shapes of features that weights stay laid out for: parts of a track take turns in two or three."""


def bordered_steps(shape: Sequence[int], device: torch.device) -> FramedFeatures:
    """Memory for features in whole steps as `EightBitConvolution` hears them.

    There is a border of zero bins, and there may be features more, of any values. Where both are right for a CPU's
    matrix instructions (AMX), oneDNN needs not copy what it convolves first, which takes up to three times as long as
    to convolve it.

    Args:
        shape: Axes batch, feature, frame, bin, of what is to be written `inside`.
        device: Where.
    """
    batch, n_features, n_frames, n_bins = shape
    around = (batch, _n_heard(n_features), n_frames, n_bins + 2 * BORDER)
    whole = torch.empty(around, dtype=torch.uint8, device=device, memory_format=torch.channels_last)
    whole[..., :BORDER] = whole[..., n_bins + BORDER :] = 0
    return whole


def inside(bordered: FramedFeatures, n_features: int) -> FramedFeatures:
    """The features that it is there for, a view."""
    return bordered[:, :n_features, :, BORDER : bordered.shape[3] - BORDER]


class EightBitConvolution(Convolution):
    """As `Convolution`, with weights rounded to eight bits and a scale for each output.

    Right where such products are summed in 32 bits alone: see `sums_exactly`. It hears `bordered_steps`, and gives
    what is convolved of the features inside.

    Args:
        weight: Of features in whole steps; see `Convolution`.
        bias: Of each output.
        dilation: Of both axes.
        bin_padding: See `Convolution`.
        rectify: Whether negative results become zero.
        gives: Type of the results; torch.uint8 rounds them to whole steps, no more than 255, none negative.
    """

    border = BORDER

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
        n_outputs, n_features, _, n_bins = weight.shape
        padding = n_bins // 2 * dilation if bin_padding is None else bin_padding
        self._n_cut = max(0, BORDER - padding)  # results on either side that hear more of the border than they should
        weight = F.pad(weight.detach().float(), (0, 0) * 2 + (0, _n_heard(n_features) - n_features))
        weight = F.pad(weight, (0, 0) * 3 + (0, -n_outputs % _outputs_together()))
        largest = weight.abs().amax((1, 2, 3))
        self._scale = largest.clamp(min=torch.finfo(torch.float32).tiny * 2**8) / _MOST_WEIGHT
        self._whole = (weight / self._scale[:, None, None, None]).round_().to(torch.int8)
        self._no_offset = torch.zeros(len(weight), dtype=torch.int32)
        bias = None if bias is None else F.pad(bias.detach().float(), (0, len(weight) - n_outputs))
        super().__init__(self._whole, bias, dilation, max(0, padding - BORDER), rectify=rectify)
        self.n_outputs, self._gives = n_outputs, gives
        self._lost_bins = (n_bins - 1) * dilation - 2 * padding + 2 * BORDER
        self._laid_out = None, self._whole  # not a copy
        # The last one is that used last. Replaced as a whole: threads that separate with the same network share it.
        self._layouts: dict[torch.Size, Tensor] = {}

    def onto(self, total: FramedFeatures, features: FramedFeatures) -> NoReturn:
        """Not here: oneDNN copies what it is to add to, and whole steps have lost what is negative."""
        raise TypeError("what is convolved in whole steps is not added to a sum")

    def _convolved(self, features: FramedFeatures, rectify: bool) -> FramedFeatures:
        convolve = torch.ops.onednn.qconv2d_pointwise
        weights = self._weight_for(features), self._scale, self._no_offset, self._bias
        unary = "relu" if rectify else "none"
        geometry = self._in_order()
        given = cast("Tensor", convolve(features, 1.0, 0, *weights, *geometry, 1.0, 0, self._gives, unary, [], ""))
        return given[:, : self.n_outputs, :, self._n_cut : given.shape[3] - self._n_cut]

    def _in_order(self) -> tuple[list[int], tuple[int, int], list[int], int]:
        """Stride, padding, dilation and groups, as these operators take them."""
        _, padding, stride, dilation, groups = self._geometry()
        return stride, padding, dilation, groups

    def _weight_for(self, features: FramedFeatures) -> Tensor:
        """See `Convolution`."""
        layouts = dict(self._layouts)
        weight = layouts.pop(features.shape, None)
        if weight is None:
            prepack = torch.ops.onednn.qconv_prepack
            geometry = (*self._in_order(), list(features.shape))
            weight = cast("Tensor", prepack(self._whole, self._scale, 1.0, 0, *geometry))
        self._layouts = dict([*layouts.items()][1 - _N_LAID_OUT :]) | {features.shape: weight}
        return weight


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


def _n_heard(n_features: int) -> int:
    """Features that there is memory for: matrix instructions take 64 at a time, if that is not many more."""
    n_whole = -(-n_features // 64) * 64
    return n_whole if has_tiles() and 3 * n_whole <= 4 * n_features else n_features


def _outputs_together() -> int:
    """Outputs that the processor computes together."""
    return 16 if has_wide_vectors() else 8


@cache
def sums_exactly() -> bool:
    """Whether PyTorch has oneDNN's operators of eight bits, which are not public, as they are used here; and are exact.

    Where the processor has no instructions for them, or oneDNN is told not to use them, it adds up products of two
    features in sixteen bits, which the largest overflow.
    """
    heard = bordered_steps((1, 2, 1, 1), torch.device("cpu")).fill_(MOST)
    try:
        given = EightBitConvolution(torch.full((1, 2, 1, 1), 0.5), None, gives=torch.float32)(heard)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return abs(float(given) - MOST) < 0.01
