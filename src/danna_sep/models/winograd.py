"""Results of three taps that follow one another from fewer products: six for four results, or four for two.

Taps and what is heard are taken for polynomials; products of their values at some points tell the results. Values are
sums, which cost little where each number that is summed meets many taps.

Reference: Winograd, "Arithmetic Complexity of Computations", SIAM 1980: F(4, 3) at 0, 1, -1, 2, -2 and infinity,
F(2, 3) at 0, 1, -1 and infinity. Two taps are three of which the first is zero: there is no product at 0.
What is not finite reaches all results of its window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from danna_sep.models.convolution import framed
from danna_sep.shapes import FramedFeatures

Views: TypeAlias = Sequence[Tensor]
Sums: TypeAlias = Float[Tensor, "point batch window bin _feature"]

_N_NEAR = 2**22
"""So many sums at once, or those of one window: as stay in the processor's last cache until they are multiplied."""


@dataclass(frozen=True)
class Scheme:
    """How many results are computed together, and from what.

    Attributes:
        n_results: What is heard for them, a window, has two more.
        at_points: Axes point, tap: what a tap contributes at 0, at the inner points and at infinity.
        write_sums: What is to be multiplied at each point, from a window: views of all that is heard, and of places.
        combine: Results but for the product at 0, which the first lacks, and that at infinity, which the last lacks.
            From a function that gives the product at an inner point, to as many places if there are any; products
            are lost.
    """

    n_results: int
    at_points: tuple[tuple[float, float, float], ...]
    write_sums: Callable[[Views, Views], None]
    combine: Callable[[Callable[[int], Tensor], Views | None], list[Tensor]]

    @property
    def n_points(self) -> int:
        """The first is 0, the last infinity."""
        return len(self.at_points)

    def values(self, taps: Tensor, axis: int) -> Tensor:
        """At the points, which then take the place of the taps along an axis: three, or the last two."""
        taps = taps.movedim(axis, 0)
        three = torch.cat((taps.new_zeros(3 - len(taps), *taps.shape[1:]), taps))
        values: Tensor = torch.tensordot(torch.tensor(self.at_points, dtype=taps.dtype), three, 1)
        return values.movedim(0, axis)

    def windows(self, heard: Tensor, axis: int, n_windows: int) -> list[Tensor]:
        """For each place in a window a view of what is heard there in all windows; they overlap by two."""
        n_heard = self.n_results * (n_windows - 1) + 1
        return [every(self.n_results, heard.narrow(axis, i, n_heard), axis) for i in range(self.n_results + 2)]


def every(n: int, taken: Tensor, axis: int, start: int = 0) -> Tensor:
    """Each n-th along an axis, from the start on; a view."""
    return taken.movedim(axis, 0)[start::n].movedim(0, axis)


def _write_sums_for_two(heard: Views, sums: Views) -> None:
    x0, x1, x2, x3 = heard
    torch.sub(x0, x2, out=sums[0])
    torch.add(x1, x2, out=sums[1])
    torch.sub(x2, x1, out=sums[2])
    torch.sub(x3, x1, out=sums[3])


def _combine_two(product: Callable[[int], Tensor], places: Views | None) -> list[Tensor]:
    at_one, at_minus_one = product(1), product(2)
    first, second = places or (None, at_one)
    return [torch.add(at_one, at_minus_one, out=first), torch.sub(at_one, at_minus_one, out=second)]


def _write_sums_for_four(heard: Views, sums: Views) -> None:
    x0, x1, x2, x3, x4, x5 = heard
    torch.sub(x4, x2, alpha=5, out=sums[0]).add_(x0, alpha=4)
    even, odd = torch.sub(x4, x2, alpha=4, out=sums[3]), torch.sub(x3, x1, alpha=4, out=sums[4])
    torch.add(even, odd, out=sums[1])
    torch.sub(even, odd, out=sums[2])
    even, odd = torch.sub(x4, x2, out=sums[3]), torch.sub(x3, x1, out=sums[4])
    torch.sub(even.add_(odd, alpha=2), odd, alpha=4, out=odd)
    torch.sub(x5, x3, alpha=5, out=sums[5]).add_(x1, alpha=4)


def _combine_four(product: Callable[[int], Tensor], places: Views | None) -> list[Tensor]:
    even, odd = _sum_and_difference(product(1), product(2))
    even_at_two, odd_at_two = _sum_and_difference(product(3), product(4))
    first, second, third, fourth = places or (even, odd, even_at_two, odd_at_two)
    torch.add(even, even_at_two, out=first)
    torch.add(odd, odd_at_two, alpha=2, out=second)
    torch.add(first, even_at_two, alpha=3, out=third)
    torch.add(second, odd_at_two, alpha=6, out=fourth)
    return [first, second, third, fourth]


def _sum_and_difference(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """In the same memory: what is asked for anew is not near the processor."""
    one.add_(other)
    return one, torch.sub(one, other, alpha=2, out=other)


BY_TWO = Scheme(
    2,
    ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    _write_sums_for_two,
    _combine_two,
)
BY_FOUR = Scheme(
    4,
    (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    _write_sums_for_four,
    _combine_four,
)
"""In single precision results stand 111 to 125 dB above their error; those of plain taps stand 130 dB above it."""


class Scratch:
    """Memory for what lies between, used again for the next windows: so it stays near the processor."""

    def __init__(self) -> None:
        self._rooms: dict[str, Tensor] = {}

    def room(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """By a name, always of the same shape; what was there is lost."""
        if name not in self._rooms:
            self._rooms[name] = like.new_empty(shape)
        return self._rooms[name]


def sums_of_frames(
    scheme: Scheme, features: FramedFeatures, n_windows: int, around: tuple[int, int] = (0, 0)
) -> Iterator[tuple[slice, Sums]]:
    """Which frames of results come next, and what is to be multiplied for them: it is lost when the next are asked for.

    As many windows each time: convolutions of other shapes need their weights laid out anew. So some may come twice.

    Args:
        scheme: How many results come together.
        features: All that is heard.
        n_windows: Of frames; one at least.
        around: Bins of zeros before and behind, to be added.
    """
    rows = framed(features).permute(0, 2, 3, 1)
    batch, _, n_bins, n_features = rows.shape
    before, behind = around
    shape = (batch, before + n_bins + behind, n_features)
    size = _n_together(n_windows, _N_NEAR // max(1, scheme.n_points * math.prod(shape)))
    sums = rows.new_empty(scheme.n_points, batch, size, *shape[1:])
    sums[..., :before, :] = 0
    sums[..., before + n_bins :, :] = 0
    places = sums[..., before : before + n_bins, :].unbind()
    for start in range(0, n_windows, size):
        first = min(start, n_windows - size) * scheme.n_results
        scheme.write_sums(scheme.windows(rows[:, first:], 1, size), places)
        yield slice(first, first + size * scheme.n_results), sums


def _n_together(n_windows: int, n_most: int) -> int:
    """So many at a time that fewer come twice than there are times."""
    n_times = -(-n_windows // max(1, n_most))
    return -(-n_windows // n_times)
