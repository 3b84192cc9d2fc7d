"""Transposed convolution with fewer products than taps; see `models/winograd.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from danna_sep.models.convolution import Convolution
from danna_sep.models.widen import Quarters, Widening, combined
from danna_sep.models.winograd import BY_FOUR, BY_TWO, Scheme, Scratch, every, sums_of_frames
from danna_sep.shapes import FramedFeatures

_SumsAtPoint: TypeAlias = Float[Tensor, "batch window bin _feature"]
_Columns: TypeAlias = Float[Tensor, "batch window _bin _column _row output"]
"""Results at a point: of even and odd columns, or of one of these; of even and odd rows, or one."""


class SparingWidening(Widening):
    """As `Widening`, of a kernel of five, but for rounding.

    Four rows come together, from 11 products for 20, and so along the bins. Where numbers are coarser than in single
    precision, too coarse for such sums, two rows, from 7 for 10, and bins each from its own taps.

    Args:
        weight: See `Widening`.
        norm: Its statistics stand still.
        rectify: Whether negative results become zero.
    """

    def __init__(self, weight: Tensor, norm: nn.BatchNorm2d, *, rectify: bool = False) -> None:
        super().__init__(weight, norm, rectify=rectify)
        taps, shift = combined(weight, norm)
        is_coarse = torch.finfo(weight.dtype).eps > torch.finfo(torch.float32).eps
        self._least = 0.0 if rectify else -torch.inf
        self._scheme = BY_TWO if is_coarse else BY_FOUR
        self._kind: type[_BinsConvolved | _BinsSpared] = _BinsConvolved if is_coarse else _BinsSpared
        by_row = _by_parity(self._scheme, taps.double(), 2)
        self._at_points = [
            self._kind(by_row[: _n_needing(k), :, :, k], shift if k == 1 else None, weight.dtype)
            for k in range(self._scheme.n_points)
        ]

    def into(self, quarters: Quarters, features: FramedFeatures) -> None:
        """See `Widening`."""
        n_results, scratch = self._scheme.n_results, Scratch()
        n_windows = quarters[1][0].shape[2] // n_results
        around = self._kind.around(features.shape[3])
        if n_windows and features.shape[3]:
            for frames, sums in sums_of_frames(self._scheme, features, n_windows, around):
                for piece in range(self._kind.n_pieces):
                    results = self._results(partial(self._product, sums, piece, scratch))
                    self._write(results, quarters, frames, piece)
        n_done = n_windows * n_results
        super().into([[place[:, :, n_done:] for place in pair] for pair in quarters], features[:, :, n_done:])

    def _product(self, sums: Tensor, piece: int, scratch: Scratch, k: int) -> _Columns:
        return self._at_points[k](sums[k], piece, scratch, f"product {k}")

    def _results(self, product: Callable[[int], _Columns]) -> list[_Columns]:
        results = self._scheme.combine(product, None)
        results[0][..., : _n_needing(0), :] += product(0)
        results[-1] += product(self._scheme.n_points - 1)
        return results

    def _write(self, results: Sequence[_Columns], quarters: Quarters, frames: slice, piece: int) -> None:
        for k, result in enumerate(results):
            for j, column in enumerate(result.unbind(3), piece):
                for i, row in enumerate(column.unbind(3)):
                    place = quarters[i][j][:, :, frames.start + k : frames.stop : len(results)]
                    torch.clamp_min(row[:, :, : place.shape[3]].permute(0, 3, 1, 2), self._least, out=place)


class _BinsConvolved:
    """What bins give of rows of sums at a point, each from its own taps.

    Args:
        taps: Axes row (even, odd, or one of them), output, input, bin.
        bias: Of each output.
        dtype: Of features.
    """

    n_pieces = 2
    """Even columns and odd ones."""

    def __init__(self, taps: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self._n_rows, self._n_outputs = taps.shape[:2]
        bias = None if bias is None else bias.to(dtype).repeat(self._n_rows)
        weights = [taps[..., j::2].flatten(0, 1)[:, :, None].to(dtype) for j in (0, 1)]
        self._pieces = [
            Convolution(weight, bias, bin_padding=weight.shape[3] // 2 if weight.shape[3] % 2 else 0)
            for weight in weights
        ]

    @staticmethod
    def around(_n_bins: int) -> tuple[int, int]:
        """Bins of zeros that have to be added before and behind."""
        return 0, 0

    def __call__(self, sums: _SumsAtPoint, piece: int, _scratch: Scratch, _name: str) -> _Columns:
        """One of the pieces, of no fewer bins than wanted; in the memory of that name, or in new memory."""
        given = self._pieces[piece](sums.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return given.view(*given.shape[:3], 1, self._n_rows, self._n_outputs)


class _BinsSpared:
    """As `_BinsConvolved`, windows of bins together."""

    n_pieces = 1
    """Both columns."""

    def __init__(self, taps: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self._n_rows, self._n_outputs = taps.shape[:2]
        by_column = _by_parity(BY_FOUR, taps, 3)
        bias = None if bias is None else bias.to(dtype).repeat(2 * self._n_rows)
        self._at_points = [
            Convolution(
                by_column[: _n_needing(k), ..., k].flatten(0, 2)[..., None, None].to(dtype), bias if k == 1 else None
            )
            for k in range(BY_FOUR.n_points)
        ]

    @staticmethod
    def around(n_bins: int) -> tuple[int, int]:
        """See `_BinsConvolved`."""
        return 1, 1 + -n_bins % BY_FOUR.n_results

    def __call__(self, sums: _SumsAtPoint, _piece: int, scratch: Scratch, name: str) -> _Columns:
        """See `_BinsConvolved`."""
        batch, n_frames, n_heard, n_features = sums.shape
        n_windows = (n_heard - 2) // BY_FOUR.n_results
        again = scratch.room("sums", (BY_FOUR.n_points, batch, n_frames, n_windows, n_features), sums)
        BY_FOUR.write_sums(BY_FOUR.windows(sums, 2, n_windows), again.unbind())
        shape = (batch, n_frames, n_windows, BY_FOUR.n_results, 2, self._n_rows, self._n_outputs)
        given = scratch.room(name, shape, sums)
        places = given.unbind(3)
        BY_FOUR.combine(partial(self._product, again), places)
        places[0][..., : _n_needing(0), :, :] += self._product(again, 0)
        places[-1].add_(self._product(again, BY_FOUR.n_points - 1))
        return given.flatten(2, 3)

    def _product(self, sums: Tensor, k: int) -> Tensor:
        given = self._at_points[k](sums[k].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return given.view(*given.shape[:3], -1, self._n_rows, self._n_outputs)


def _by_parity(scheme: Scheme, taps: Tensor, axis: int) -> Tensor:
    """Values of the taps that even results along an axis have, and odd ones: a new first axis."""
    return torch.stack([scheme.values(every(2, taps, axis, start), axis) for start in (0, 1)])


def _n_needing(k: int) -> int:
    """How many of even and odd results need the product at a point: odd ones, of two taps, none at 0."""
    return 1 if k == 0 else 2
