"""A U-Net whose features are counted in steps, so that whole numbers of eight bits can stand for them.

Behind a batch norm and rectifying, a channel has a known mean and spread, those that the norm gives it, and is never
negative. So what eight bits must reach is known before anything is heard, and each channel's step follows from it, up
to a power of two. Features divided by steps and weights multiplied by them leave the network what it was, exactly.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from danna_sep.models.attention import LocalAttention
from danna_sep.models.d3 import D2Block, D3Block
from danna_sep.models.unet import UNet, UpStage
from danna_sep.models.whole_numbers import MOST

_SPREADS = 10
"""Standard deviations above a norm's mean that a channel is counted to, at least."""
_LARGEST_MAGNITUDE = 4096
"""Counted: a sine wave of four times full scale, through a window of 4096 samples."""
_EVEN_ENOUGH = 0.5
"""Power up to which they are counted: eight bits are too few for both loud and faint ones as they are."""


def can_count(model: UNet) -> bool:
    """Whether `count_in_steps` takes it: one with local attention that hears magnitudes to a power of 0.5 or less."""
    return model.config.bottleneck == "attention" and model.config.input_power <= _EVEN_ENOUGH


@torch.no_grad()
def count_in_steps(model: UNet) -> None:
    """Scale all parameters, in place, so that each channel of features is counted in steps; once.

    The network is then to separate with: what it counts magnitudes in is no parameter, and would not be saved.

    Raises:
        ValueError: It was counted before, or see `can_count`.
    """
    if model.magnitude_step != 1 or not can_count(model):
        raise ValueError("a U-Net that can count does so once; others have LSTMs or hear magnitudes nearly as they are")
    config = model.config
    largest = torch.tensor(float(_LARGEST_MAGNITUDE)) ** config.input_power
    step = _power_of_two(largest / MOST)
    model.magnitude_step = float(step)
    steps = step.expand(config.n_channels)
    skips: list[Tensor] = []
    for block in model.encoder:
        steps = _count_d3(cast("D3Block", block), steps)
        skips.append(steps)
    inner = skips.pop()
    for attention, norm, _ in zip(*(list(model.bottleneck)[i::3] for i in range(3)), strict=True):
        _hear(cast("LocalAttention", attention).project, inner)
        inner = _count_norm(cast("nn.BatchNorm2d", norm))
    steps = torch.cat((steps, inner))
    for each in model.decoder:
        stage = cast("UpStage", each)
        steps = _count_d3(stage.block, steps)
        _hear(stage.widen, steps)
        steps = torch.cat((_count_norm(stage.norm), skips.pop()))
    _hear(model.widen, steps)
    _hear(model.output, _count_norm(model.widen_norm))


def _count_d3(block: D3Block, steps: Tensor) -> Tensor:
    for each in block.blocks:
        d2 = cast("D2Block", each)
        heard, given = steps, []
        for conv, norm in zip(d2.convs, d2.norms, strict=True):
            _hear(cast("nn.Conv2d", conv), heard)
            heard = _count_norm(cast("nn.BatchNorm2d", norm))
            given.append(heard)
        steps = torch.cat((steps, *given))
    return steps


def _hear(layer: nn.Conv2d | nn.ConvTranspose2d, steps: Tensor) -> None:
    """Let a layer take features that are counted in these steps."""
    axes = (1, -1, 1, 1) if isinstance(layer, nn.Conv2d) else (-1, 1, 1, 1)
    layer.weight.mul_(steps.to(layer.weight).reshape(axes))


def _count_norm(norm: nn.BatchNorm2d) -> Tensor:
    """Let a norm's channels, rectified, be counted in steps; these."""
    reach = norm.bias.clamp(min=0) + _SPREADS * norm.weight.abs()
    # A channel that is nothing has steps, too.
    steps = _power_of_two(reach.clamp(min=float(reach.max()) * 2**-12 or 1.0) / MOST)
    norm.weight.div_(steps)
    norm.bias.div_(steps)
    return steps.detach()


def _power_of_two(least: Tensor) -> Tensor:
    """The next power of two: to scale by these rounds nothing."""
    return torch.exp2(torch.ceil(torch.log2(least)))
