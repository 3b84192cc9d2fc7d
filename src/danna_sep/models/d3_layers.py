"""D3 blocks over a track that comes in parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor

from danna_sep.models.bordered import convolution_for, has_border
from danna_sep.models.convolution import Convolution
from danna_sep.models.d3 import D2Block, D3Block
from danna_sep.models.frame_queues import Lead, Led, Part
from danna_sep.models.sparing_convolution import SparingConvolution, spares
from danna_sep.models.whole_numbers import EightBitConvolution
from danna_sep.shapes import FramedFeatures

LedLayer: TypeAlias = Callable[[Part, Led], Led]


def conv_lead(dtype: torch.dtype, device: torch.device) -> Lead:
    """What a 3x3 convolution that is not dilated needs around features of a type."""
    return Lead(1, 2, has_border(dtype, device))


def d3_layer(name: str, block: D3Block, lead: Lead, types: Sequence[torch.dtype]) -> LedLayer:
    """From features that are led by what a convolution needs, to some that are led by what the next layer needs.

    Types are those of the features that each block hears, and that the last gives; torch.uint8 are whole steps.
    """
    device = next(block.parameters()).device
    blocks: list[tuple[Callable[[Part, FramedFeatures], None], list[str], Lead, torch.dtype]] = []
    for i, each in enumerate(block.blocks):
        d2 = cast("D2Block", each)
        queues = [f"{name}.{i} {k}" for k in range(1 + len(d2.convs))]
        is_last = i == len(block.blocks) - 1
        layer_of = _d2(f"{name}.{i}", d2, queues[1:], types[i] == torch.uint8)
        blocks.append((layer_of, queues, lead if is_last else conv_lead(types[i + 1], device), types[i + 1]))

    def layer(part: Part, led: Led) -> Led:
        for d2, queues, lead, dtype in blocks:
            part.put(queues[0], led.new)
            d2(part, led.features)
            led = part.stack(queues, lead, dtype=dtype)
        return led

    return layer


def _d2(name: str, block: D2Block, outputs: Sequence[str], in_steps: bool) -> Callable[[Part, FramedFeatures], None]:
    """From features that are led by what its first convolution needs, into a queue for each layer's output.

    The last layer's is all that its convolution gives, which rectifies; an earlier one's is the first of what it gives.
    The features are whole steps of eight bits if they are `in_steps`.
    """
    dtype, growth = cast("Tensor", block.convs[0].weight).dtype, block.growth
    last = len(outputs) - 1

    def convolution_of(i: int) -> Convolution:
        hears_steps, rectify = in_steps and i == 0, i == last
        weight, shift = block.scaled(i, torch.float32 if hears_steps else dtype)
        if hears_steps:
            return EightBitConvolution(weight.transpose(-2, -1), shift, rectify=rectify, gives=dtype)
        if i == 0 and spares(weight):
            return SparingConvolution(weight.transpose(-2, -1), shift, rectify=rectify)
        kind = Convolution if i else convolution_for(weight)
        return kind(weight.transpose(-2, -1), shift, 2**i, rectify=rectify)

    first, *others = map(convolution_of, range(len(outputs)))

    def layer(part: Part, led: FramedFeatures) -> None:
        yielded = first(part.behind(led, 1))
        for i, convolution in enumerate(others):
            reach = convolution.reach
            own = part.led(f"{name}.{i}", yielded[:, :growth], Lead(reach // 2, reach), rectify=True)
            part.put(outputs[i], own.new)
            heard = part.behind(own.features, reach // 2)
            waiting = part.joined(f"{name} waiting {i}", yielded[:, growth:])
            n_frames = max(0, heard.shape[2] - reach)
            yielded = convolution.onto(waiting[:, :, :n_frames], heard)
            part.keep(f"{name} waiting {i}", waiting[:, :, n_frames:])
        part.put(outputs[last], yielded)

    return layer
