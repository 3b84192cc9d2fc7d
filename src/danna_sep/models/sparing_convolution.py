"""Convolutions along frames with half as many products as taps; see `models/winograd.py`."""

from __future__ import annotations

import torch
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

    def __call__(self, features: FramedFeatures) -> FramedFeatures:
        """See `Convolution`."""
        n_frames, n_bins = max(0, features.shape[2] - self.reach), max(0, features.shape[3] - self._lost_bins)
        n_windows = n_frames // BY_FOUR.n_results
        n_done = n_windows * BY_FOUR.n_results
        if not n_windows or not n_bins:
            return super().__call__(features)
        given = features.new_empty(len(features), n_frames, n_bins, self.n_outputs).permute(0, 3, 1, 2)
        for frames, sums in sums_of_frames(BY_FOUR, features, n_windows):
            self._write(given[:, :, frames], sums)
        if n_done < n_frames:
            given[:, :, n_done:] = super().__call__(features[:, :, n_done:])
        return given

    def _write(self, place: FramedFeatures, sums: Sums) -> None:
        def product(k: int) -> Tensor:
            return self._at_points[k](sums[k].permute(0, 3, 1, 2))

        n_results = BY_FOUR.n_results
        first, *_, last = BY_FOUR.combine(product, [place[:, :, k::n_results] for k in range(n_results)])
        first += product(0)
        last += product(BY_FOUR.n_points - 1)
        if self.rectify:
            torch.relu_(place)
