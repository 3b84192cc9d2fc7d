"""A U-Net among wider features, whose number is a multiple of eight: the same masks and gradients, faster on a GPU.

What a U-Net hears are two channels, which every layer sees beside what others found: 2, 18, 34, 98 features. On a GPU
the products of bfloat16, channels last, need multiples of eight to be fast. So six channels of silence are heard, too.
The weights that meet them, and those of features that pad a widening, are zero and stay so, for so are their gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danna_sep.models.d3 import D3Block
from danna_sep.models.unet import UNet, UpStage

MULTIPLE = 8

Places: TypeAlias = tuple[int, ...]
"""Where features lie among others."""


class AlignedUNet(nn.Module):
    """Takes the place of a U-Net in training.

    Attributes:
        unet: The wider one.
    """

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        config = unet.config
        n_silent = -config.n_channels % MULTIPLE
        self.unet = UNet(replace(config, n_channels=config.n_channels + n_silent))
        self.unet.config = config
        self.unet.encoder[0].register_forward_pre_hook(partial(_with_silence, n_silent))
        output = unet.output
        self.unet.output = nn.Conv2d(self.unet.output.in_channels, output.out_channels, 3, padding=2, dilation=2)
        self._places = {(name, axis): torch.tensor(places) for name, axis, places in _moved(unet, n_silent)}
        self.to(output.weight)
        with torch.no_grad():
            for name, entry in unet.state_dict().items():
                wide = self.unet.state_dict()[name]
                if wide.shape != entry.shape and wide.dim() == 4:
                    wide.zero_()
                wide[self._index(name, wide)] = entry

    def forward(self, magnitude: Tensor) -> Tensor:
        """The U-Net's masks."""
        return self.unet(magnitude)

    def entries(self) -> dict[str, Tensor]:
        """The U-Net's state."""
        return {name: wide[self._index(name, wide)] for name, wide in self.unet.state_dict().items()}

    def _index(self, name: str, wide: Tensor) -> tuple[Tensor, ...]:
        """Where an entry lies in the wider one: places of features along its first two axes."""
        first, *others = (
            self._places.get((name, axis), torch.arange(n)) for axis, n in enumerate(wide.shape[:2] or (1,))
        )
        return (first[:, None], *others) if others else (first,) if wide.dim() else ()


def _with_silence(n_silent: int, module: nn.Module, heard: tuple[Tensor]) -> tuple[Tensor]:
    return (F.pad(heard[0], (0, 0, 0, 0, 0, n_silent)),)


def _moved(unet: UNet, n_silent: int) -> Iterator[tuple[str, int, Places]]:
    """Entry, axis and places of the features that lie elsewhere."""

    def heard(width: int, n_before: int = 0) -> Places:
        """Features that begin with what is heard, behind some others."""
        n_channels = unet.config.n_channels
        return tuple(n_before + (k if k < n_channels else k + n_silent) for k in range(width))

    def behind(places: Places, n_wide: int, n_features: int) -> Places:
        """So many features: some at places among so many, the rest behind them."""
        return (*places, *range(n_wide, n_wide + n_features - len(places)))

    def block(name: str, places: Places, n_wide: int) -> Iterator[tuple[str, int, Places]]:
        """A D3 block that hears features at some places among so many; what it adds lies behind them."""
        for i in range(len(cast("D3Block", unet.get_submodule(name)).blocks)):
            weight = f"{name}.blocks.{i}.convs.0.weight"
            yield weight, 1, behind(places, n_wide, unet.get_parameter(weight).shape[1])

    def widening(name: str, norm: str, places: Places) -> Iterator[tuple[str, int, Places]]:
        weight = f"{name}.weight"
        n_inputs, n_outputs = unet.get_parameter(weight).shape[:2]
        yield weight, 0, behind(places, places[-1] + 1, n_inputs)
        yield weight, 1, tuple(range(n_outputs))
        for kind in ("weight", "bias", "running_mean", "running_var"):
            yield f"{norm}.{kind}", 0, tuple(range(n_outputs))

    for i, encoder in enumerate(unet.encoder):
        d3 = cast("D3Block", encoder)
        width = d3.blocks[0].convs[0].in_channels
        yield from block(f"encoder.{i}", heard(width), width + n_silent)
    width = d3.n_outputs
    yield "bottleneck.0.project.weight", 1, heard(width)
    places = heard(width + unet.config.bottleneck_width)
    for i, decoder in enumerate(unet.decoder):
        stage = cast("UpStage", decoder)
        yield from block(f"decoder.{i}.block", places, places[-1] + 1)
        yield from widening(f"decoder.{i}.widen", f"decoder.{i}.norm", places)
        n_skip = stage.widen.out_channels
        places = (*range(n_skip), *heard(n_skip, n_skip + n_silent))
    yield from widening("widen", "widen_norm", places)
    yield "output.weight", 1, tuple(range(unet.widen.out_channels))
