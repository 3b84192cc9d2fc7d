"""Where the features of a U-Net lie among those of a wider one: it hears more channels, or its layers yield more.

A U-Net's features are groups that follow one another: what is heard, then what each layer found. In the wider one
each group is wider, and the narrow one's features are the first of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TypeAlias

import torch
from torch import Tensor

from danna_sep.models import UNet

Groups: TypeAlias = tuple[tuple[int, int], ...]
"""Width of each group of features in the narrow and in the wide one."""
Places: TypeAlias = dict[tuple[str, int], Tensor]
"""By entry and axis: where the narrow one's features lie along that axis of the wide one's."""


def places(narrow: UNet, wide: UNet) -> Places:
    """Of all entries and axes along which features lie; elsewhere both are alike.

    Args:
        narrow: Of any size, with attention in its bottleneck.
        wide: The same with more channels heard, or of a larger growth.
    """
    return {(name, axis): torch.tensor(tuple(_indices(groups))) for name, axis, groups in _groups(narrow, wide)}


def index(found: Places, name: str, wide: Tensor) -> tuple[Tensor, ...]:
    """Of all that the narrow one has of an entry of the wide one's state."""
    if not wide.dim():
        return ()
    first, *others = (found.get((name, axis), torch.arange(n)) for axis, n in enumerate(wide.shape[:2]))
    return (first[:, None], *others) if others else (first,)


def _indices(groups: Groups) -> Iterator[int]:
    starts = accumulate((wide for _, wide in groups), initial=0)
    for start, (narrow, _) in zip(starts, groups, strict=False):
        yield from range(start, start + narrow)


def _groups(narrow: UNet, wide: UNet) -> Iterator[tuple[str, int, Groups]]:
    """Entry, axis and the groups of features along it."""
    own, others = narrow.config, wide.config
    n_heard = narrow.encoder[0].blocks[0].convs[0].in_channels, wide.encoder[0].blocks[0].convs[0].in_channels
    layer = own.growth, others.growth

    def norm(name: str, groups: Groups) -> Iterator[tuple[str, int, Groups]]:
        for kind in ("weight", "bias", "running_mean", "running_var"):
            yield f"{name}.{kind}", 0, groups

    def block(name: str, heard: Groups, n_layers: int) -> Iterator[tuple[str, int, Groups]]:
        for number, inputs in enumerate((heard, heard + n_layers * (layer,))):
            for i in range(n_layers):
                conv = f"{name}.blocks.{number}.convs.{i}.weight"
                yield conv, 0, (n_layers - i) * (layer,)
                yield conv, 1, inputs if i == 0 else (layer,)
                yield from norm(f"{name}.blocks.{number}.norms.{i}", (layer,))

    def widening(name: str, norm_name: str, inputs: Groups, outputs: Groups) -> Iterator[tuple[str, int, Groups]]:
        yield f"{name}.weight", 0, inputs
        yield f"{name}.weight", 1, outputs
        yield from norm(norm_name, outputs)

    features: Groups = (n_heard,)
    skips: list[Groups] = []
    for stage, n_layers in enumerate(own.n_layers):
        yield from block(f"encoder.{stage}", features, n_layers)
        features += 2 * n_layers * (layer,)
        skips.append(features)
    yield "bottleneck.0.project.weight", 1, features
    features += ((own.bottleneck_width, others.bottleneck_width),)
    for stage, (skip, n_layers) in enumerate(zip(skips[-2::-1], own.n_layers[-2::-1], strict=True)):
        yield from block(f"decoder.{stage}.block", features, n_layers)
        widened: Groups = (_widths(skip),)
        yield from widening(
            f"decoder.{stage}.widen", f"decoder.{stage}.norm", features + 2 * n_layers * (layer,), widened
        )
        features = widened + skip
    widened = (_widths(skips[0]),)
    yield from widening("widen", "widen_norm", features, widened)
    yield "output.weight", 1, widened


def _widths(groups: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Of several groups together."""
    return sum(narrow for narrow, _ in groups), sum(wide for _, wide in groups)
