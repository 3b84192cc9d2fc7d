"""Convolutions of features that stand between bins of zeros.

A CPU's matrix instructions (AMX) then take them where they stand. Otherwise oneDNN first copies what it convolves,
which takes up to three times as long as to convolve it, unless all three hold: there are as many inputs as fill whole
matrices, outputs by sixteen, and no bins to be made up with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor

from danna_sep.models.convolution import Convolution
from danna_sep.models.processor import has_tiles, has_wide_vectors
from danna_sep.shapes import FramedFeatures

BORDER = 1
"""Bins of zeros below the lowest and above the highest."""
_IN_MATRIX = {torch.uint8: 64, torch.bfloat16: 32}
"""Inputs that matrix instructions take at a time."""


def has_border(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether features of that type had better stand between zeros; those in whole steps always do."""
    return dtype == torch.uint8 or (dtype == torch.bfloat16 and device.type == "cpu" and has_tiles())


def bordered(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> FramedFeatures:
    """Memory for features as a `BorderedConvolution` hears them.

    There is a border of zero bins, and there may be features more: zeros, or of any value in whole steps.

    Args:
        shape: Axes batch, feature, frame, bin, of what is to be written `inside`.
        dtype: Of features.
        device: Where.
    """
    batch, n_features, n_frames, n_bins = shape
    around = (batch, _n_heard(n_features, dtype), n_frames, n_bins + 2 * BORDER)
    whole = torch.empty(around, dtype=dtype, device=device, memory_format=torch.channels_last)
    whole[..., :BORDER] = whole[..., n_bins + BORDER :] = 0
    if dtype != torch.uint8:
        whole[:, n_features:] = 0  # zero times what is not a number is not zero
    return whole


def inside(around: FramedFeatures, n_features: int) -> FramedFeatures:
    """The features that it is there for, a view."""
    return around[:, :n_features, :, BORDER : around.shape[3] - BORDER]


class BorderedConvolution(Convolution):
    """As `Convolution`, of features that are `bordered`: it gives what is convolved of those inside.

    Args:
        weight: See `Convolution`; of the features inside.
        bias: Of each output.
        dilation: Of both axes.
        bin_padding: See `Convolution`; the border counts as some of it.
        rectify: Whether negative results become zero.
    """

    border = BORDER
    hears: torch.dtype | None = None
    """Type of the features, if not that of the weight."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        dilation: int = 1,
        bin_padding: int | None = None,
        *,
        rectify: bool = False,
    ) -> None:
        n_outputs, n_features, _, n_bins = weight.shape
        padding = n_bins // 2 * dilation if bin_padding is None else bin_padding
        self._n_cut = max(0, BORDER - padding)  # results on either side that hear more of the border than they should
        n_heard, n_more = _n_heard(n_features, self.hears or weight.dtype), -n_outputs % _outputs_together()
        weight = F.pad(weight.detach(), (0, 0, 0, 0, 0, n_heard - n_features, 0, n_more))
        bias = None if bias is None else F.pad(bias.detach(), (0, n_more))
        super().__init__(weight, bias, dilation, max(0, padding - BORDER), rectify=rectify)
        self.n_outputs = n_outputs
        self._lost_bins = (n_bins - 1) * dilation - 2 * padding + 2 * BORDER

    def onto(self, total: FramedFeatures, features: FramedFeatures) -> NoReturn:
        """Not here: oneDNN would have to copy a total that is not of its outputs, or in eight bits any."""
        raise TypeError("what is convolved between zeros is not added to a sum")

    def _convolved(self, features: FramedFeatures, rectify: bool) -> FramedFeatures:
        return self._inner(super()._convolved(features, rectify))

    def _inner(self, given: FramedFeatures) -> FramedFeatures:
        return given[:, : self.n_outputs, :, self._n_cut : given.shape[3] - self._n_cut]


def convolution_for(weight: Tensor) -> type[Convolution]:
    """What convolves features of the weight's type, on its device, as they stand there."""
    return BorderedConvolution if has_border(weight.dtype, weight.device) else Convolution


def _n_heard(n_features: int, dtype: torch.dtype) -> int:
    """Features that there is memory for: as fill whole matrices, if that is not many more."""
    in_matrix = _IN_MATRIX.get(dtype, 1)
    n_whole = -(-n_features // in_matrix) * in_matrix
    return n_whole if has_tiles() and 3 * n_whole <= 4 * n_features else n_features


def _outputs_together() -> int:
    """Outputs that the processor computes together."""
    return 16 if has_wide_vectors() else 8
