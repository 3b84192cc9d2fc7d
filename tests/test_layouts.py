"""Weights are laid out once for each shape, and held once for all shapes for which they lie alike."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from danna_sep.models import layouts
from danna_sep.models.convolution import fuses
from danna_sep.models.layouts import Layouts

WEIGHT = torch.randn(48, 24, 3, 3, generator=torch.Generator().manual_seed(0))
on_one_dnn = pytest.mark.skipif(not fuses(WEIGHT), reason="PyTorch has not oneDNN's operators here")


def laid_out(shape: torch.Size, weight: Tensor = WEIGHT) -> Tensor:
    geometry = ([0, 1], [1, 1], [1, 1], 1)
    operator = torch.ops.aten.mkldnn_reorder_conv2d_weight
    return cast("Tensor", operator(weight.to_mkldnn(), *geometry, shape))


def shape_of(n_frames: int) -> torch.Size:
    return torch.Size((1, 24, n_frames, 371))


@on_one_dnn
def test_shapes_of_other_frames_share_what_lies_alike() -> None:
    """Else each length of a part would take the memory of all weights, or the time to lay them out."""
    held, n_asked = Layouts(), 0

    def lay_out(shape: torch.Size) -> Tensor:
        nonlocal n_asked
        n_asked += 1
        return laid_out(shape)

    for _ in range(2):
        given = [held.of(shape, lambda shape=shape: lay_out(shape)) for shape in map(shape_of, range(20, 30))]
    assert n_asked == 10
    assert len({id(layout) for layout in given}) == 1


@on_one_dnn
def test_other_weights_are_never_taken_for_the_same() -> None:
    """Not even where a single number differs."""
    other = WEIGHT.clone()
    other[-1, -1, -1, -1] += 1
    held = Layouts()
    one = held.of(shape_of(20), lambda: laid_out(shape_of(20)))
    another = held.of(shape_of(21), lambda: laid_out(shape_of(21), other))
    assert torch.equal(one.to_dense(), WEIGHT)
    assert torch.equal(another.to_dense(), other)


def test_where_memory_is_not_seen_few_are_held_and_the_last_is_known() -> None:
    """A song of many lengths would take the memory of the weights for each."""
    held = Layouts()
    for n_frames in range(3, 50):
        for each in (n_frames, 9):
            layout = held.of(shape_of(each), WEIGHT.clone)
            assert held.of(shape_of(each), lambda: pytest.fail("asked again")) is layout
    alive = {id(held.of(shape_of(n_frames), WEIGHT.clone)) for n_frames in (48, 49, 9)}
    assert len(alive) == layouts._N_LAYOUTS
    assert {id(layout) for layout in held._by_shape.values()} == alive


@on_one_dnn
def test_shapes_are_forgotten() -> None:
    """Those of all tracks that a process ever heard would pile up."""
    held = Layouts()
    for n_frames in range(3, 103):
        held.of(shape_of(n_frames), lambda n_frames=n_frames: laid_out(shape_of(n_frames)))
    assert len(held._by_shape) <= layouts._N_SHAPES
    assert shape_of(102) in held._by_shape
