"""Weights as oneDNN wants them for features of some shape: those of other shapes may take a hundred times as long."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

_N_SHAPES = 32
"""For which it is remembered how weights lie."""
_N_LAYOUTS = 3
"""Of them in memory."""


class Layouts:
    """One tensor's layouts, each held once: most shapes that differ in frames alone have the same.

    What is held is replaced as a whole: threads that separate with the same network share it.
    """

    def __init__(self) -> None:
        self._by_shape: dict[torch.Size, Tensor] = {}

    def any(self) -> Tensor | None:
        """One of them, if there is any."""
        return next(iter(self._by_shape.values()), None)

    def of(self, shape: torch.Size, lay_out: Callable[[], Tensor]) -> Tensor:
        """That for features of a shape; it is laid out where none is known."""
        known = self._by_shape.get(shape)
        if known is not None:
            return known
        laid_out, held = lay_out(), dict(self._by_shape)
        alike = (other for other in _each(held) if _lie_alike(laid_out, other))
        held[shape] = next(alike, laid_out)
        while len(held) > _N_SHAPES:
            del held[next(iter(held))]
        while len(_each(held)) > _N_LAYOUTS:
            first = next(iter(held.values()))
            held = {shape: layout for shape, layout in held.items() if layout is not first}
        self._by_shape = held
        return held[shape]


def _each(held: dict[torch.Size, Tensor]) -> list[Tensor]:
    return list({id(layout): layout for layout in held.values()}.values())


def _lie_alike(one: Tensor, other: Tensor) -> bool:
    """Whether two layouts of the same weights are the same, as far as PyTorch lets one see their memory."""
    operators = torch.ops.mkldnn
    if not (one.is_mkldnn and other.is_mkldnn and hasattr(operators, "data_ptr") and hasattr(operators, "_nbytes")):
        return False
    bytes_of = (
        ctypes.string_at(cast("int", operators.data_ptr(each)), cast("int", operators._nbytes(each)))
        for each in (one, other)
    )
    return len(set(bytes_of)) == 1
