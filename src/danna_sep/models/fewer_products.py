"""The widest transposed convolution, with seven products for ten along the frames.

Reference: Winograd, "Arithmetic Complexity of Computations", SIAM 1980: F(2, 3) for the even rows, which three taps
reach, F(2, 2) for the odd ones, which two reach. Rows of features are outermost in memory, so that their sums and
differences cost little beside the products of a row of features with a row of weights that they spare. Of rows x0 to x3
and rows of taps a, b, c (even) and d, e (odd), with s = (x1 + x2)(a + b + c) / 2 and t = (x2 - x1)(a - b + c) / 2:

    even: s + t + (x0 - x2) a                   s - t - (x1 - x3) c
    odd:  x2 (d + e) - (x2 - x1) d              x2 (d + e) - (x2 - x3) e
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from danna_sep.models.convolution import Convolution
from danna_sep.models.widen import Quarters, Widening, combined
from danna_sep.shapes import FramedFeatures

_N_TOGETHER = 16
"""Rows at once: what lies between stays near the processor."""


class _Sums(NamedTuple):
    """Of four rows that follow one another, for every second row."""

    first_less_third: FramedFeatures
    second_and_third: FramedFeatures
    third_less_second: FramedFeatures
    second_less_fourth: FramedFeatures
    third_less_fourth: FramedFeatures
    third: FramedFeatures

    @classmethod
    def of(cls, features: FramedFeatures) -> _Sums:
        """Of all rows but the last two."""
        n_rows = features.shape[2] - 2
        first, second, third, fourth = (features[:, :, i : i + n_rows : 2] for i in range(4))
        return cls(
            first - third,
            second + third,
            third - second,
            second - fourth,
            third - fourth,
            third.contiguous(memory_format=torch.channels_last),
        )


class FewerProducts(Widening):
    """As `Widening`, of a kernel of five, but for rounding."""

    def __init__(self, weight: Tensor, norm: nn.BatchNorm2d, *, rectify: bool = False) -> None:
        super().__init__(weight, norm, rectify=rectify)
        taps, shift = combined(weight, norm)
        self._columns = [_Column(taps, shift.to(weight.dtype), j, rectify) for j in (0, 1)]

    def into(self, quarters: Quarters, features: FramedFeatures) -> None:
        """See `Widening`."""
        n_rows = quarters[1][0].shape[2] // 2 * 2
        for start in range(0, n_rows, _N_TOGETHER):
            stop = min(start + _N_TOGETHER, n_rows)
            sums = _Sums.of(features[:, :, start : stop + 2])
            for j, column in enumerate(self._columns):
                for i, (first, second) in enumerate(column(sums)):
                    quarters[i][j][:, :, start:stop:2] = first
                    quarters[i][j][:, :, start + 1 : stop : 2] = second
        super().into([[place[:, :, n_rows:] for place in pair] for pair in quarters], features[:, :, n_rows:])


class _Column:
    """Even or odd columns of what is widened, from sums of rows."""

    def __init__(self, taps: Tensor, shift: Tensor, j: int, rectify: bool) -> None:
        dtype, of_bins = shift.dtype, taps[..., j::2].double()
        padding = of_bins.shape[-1] // 2 if of_bins.shape[-1] % 2 else 0

        def convolution(weight: Tensor, bias: Tensor | None, rectify: bool) -> Convolution:
            return Convolution(weight[:, :, None].to(dtype), bias, bin_padding=padding, rectify=rectify)

        before, here, behind = of_bins[:, :, 0::2].unbind(2)
        self._sum = convolution((before + here + behind) / 2, shift, False)
        self._difference = convolution((before - here + behind) / 2, None, False)
        self._first, self._last = convolution(before, None, rectify), convolution(-behind, None, rectify)
        here, behind = of_bins[:, :, 1::2].unbind(2)
        self._both = convolution(here + behind, shift, False)
        self._here, self._behind = convolution(-here, None, rectify), convolution(-behind, None, rectify)

    def __call__(
        self, sums: _Sums
    ) -> tuple[tuple[FramedFeatures, FramedFeatures], tuple[FramedFeatures, FramedFeatures]]:
        """Rows of an even number, the first and the second of each two; rows of an odd one."""
        total, difference = self._sum(sums.second_and_third), self._difference(sums.third_less_second)
        first = self._first.onto(total + difference, sums.first_less_third)
        second = self._last.onto(total.sub_(difference), sums.second_less_fourth)
        both = self._both(sums.third)
        odd_first = self._here.onto(both.clone(), sums.third_less_second)
        return (first, second), (odd_first, self._behind.onto(both, sums.third_less_fourth))
