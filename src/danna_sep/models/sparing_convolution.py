"""Convolutions along frames with half as many products as taps; see `models/winograd.py`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from danna_sep.models.convolution import Convolution, fuses
from danna_sep.models.winograd import BY_FOUR, Sums, sums_of_frames
from danna_sep.shapes import FramedFeatures

_LEAST_TAPS, _LEAST_INPUTS = 96, 32
"""Taps that each number heard meets, and numbers that each result is of: with fewer, sums, or putting results together,
take longer than the products that they spare."""


def spares(weight: Tensor) -> bool:
    """Whether a `SparingConvolution` of a weight is faster than a `Convolution`, and exact enough."""
    n_outputs, n_inputs, n_frames, n_bins = weight.shape
    is_large = n_outputs * n_bins >= _LEAST_TAPS and n_inputs >= _LEAST_INPUTS
    return is_large and n_frames == 3 and weight.dtype == torch.float32 and fuses(weight)


class SparingConvolution(Convolution):
    """As `Convolution`, of three frames side by side, but for rounding.

    Args:
        weight: Axes output, input, frame, bin.
        bias: Of each output.
        rectify: Whether negative results become zero.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, rectify: bool = False) -> None:
        super().__init__(weight, bias, rectify=rectify)
        values = BY_FOUR.values(weight.detach().double(), 2).to(weight.dtype)
        self._at_points = [
            Convolution(value[:, :, None], bias if k == 1 else None) for k, value in enumerate(values.unbind(2))
        ]
        self._plain, self._fuses = None, False  # no taps are left that could be added to a total as they are

    def _convolved(self, features: FramedFeatures, rectify: bool) -> FramedFeatures:
        n_results, n_given = BY_FOUR.n_results, features.shape[2] - self.reach
        if n_given < n_results:
            return self._convolved(F.pad(features, (0, 0, 0, n_results - n_given)), rectify)[:, :, :n_given]
        n_bins = features.shape[3] - self._lost_bins
        given = features.new_empty(len(features), n_given, n_bins, self.n_outputs).permute(0, 3, 1, 2)
        for frames, sums in sums_of_frames(BY_FOUR, features, n_given // n_results):
            self._write(given[:, :, frames], sums, rectify)
        if n_given % n_results:  # the last ones by a window of their own, where some come again
            for _, sums in sums_of_frames(BY_FOUR, features[:, :, -n_results - self.reach :], 1):
                self._write(given[:, :, -n_results:], sums, rectify)
        return given

    def _write(self, place: FramedFeatures, sums: Sums, rectify: bool) -> None:
        def product(k: int) -> Tensor:
            return self._at_points[k](sums[k].permute(0, 3, 1, 2))

        n_results = BY_FOUR.n_results
        first, *_, last = BY_FOUR.combine(product, [place[:, :, k::n_results] for k in range(n_results)])
        first += product(0)
        last += product(BY_FOUR.n_points - 1)
        if rectify:
            torch.relu_(place)
