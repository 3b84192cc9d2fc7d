"""Convolutions of so few outputs that those of two frames fit into a vector of the processor."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from danna_sep.models.convolution import Convolution, fuses
from danna_sep.models.processor import has_wide_vectors
from danna_sep.shapes import FramedFeatures

_MOST = 8
"""Outputs: half of a vector of 512 bits in single precision."""


def pairs(weight: Tensor) -> bool:
    """Whether a `PairedConvolution` of a weight is faster than a `Convolution`."""
    return len(weight) <= _MOST and has_wide_vectors() and fuses(weight)


class PairedConvolution(Convolution):
    """As `Convolution`, of frames side by side: two of them come from four, a zero to one side of each's taps.

    That is a third more products, in half as many vectors.

    Args:
        weight: Axes output, input, frame, bin.
        bias: Of each output.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        weight = weight.detach()
        both = torch.cat((F.pad(weight, (0, 0, 0, 1)), F.pad(weight, (0, 0, 1, 0))))
        self._pair = _EverySecond(both, None if bias is None else bias.repeat(2))

    def __call__(self, features: FramedFeatures) -> FramedFeatures:
        """See `Convolution`."""
        n_frames = max(0, features.shape[2] - self.reach)
        together = self._pair(features)
        if not together.numel():
            return super().__call__(features)
        batch, _, n_pairs, n_bins = together.shape
        given = features.new_empty(batch, n_frames, n_bins, self.n_outputs).permute(0, 3, 1, 2)
        given[:, :, 0 : 2 * n_pairs : 2], given[:, :, 1 : 2 * n_pairs : 2] = together.chunk(2, 1)
        if 2 * n_pairs < n_frames:
            given[:, :, 2 * n_pairs :] = super().__call__(features[:, :, 2 * n_pairs :])
        return given


class _EverySecond(Convolution):
    """As `Convolution`, but for every second frame."""

    _frame_stride = 2
