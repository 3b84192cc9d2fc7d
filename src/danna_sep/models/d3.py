"""Densely connected multi-dilated convolutions.

Reference: Takahashi, Mitsufuji, "D3Net", arXiv 2010.01733.
"""

from __future__ import annotations

from itertools import accumulate
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danna_sep.models.widen import scale_and_shift
from danna_sep.shapes import Features


class D2Block(nn.Module):
    """Layers of growing dilation, in which each layer sees every earlier one through that one's own dilation.

    Layer i is a 3x3 convolution of dilation 2^i that yields one group of `growth` channels for its own output
    and one for each layer after it. Its output is what all layers up to it left for this place, summed.
    """

    def __init__(self, n_inputs: int, growth: int, n_layers: int) -> None:
        super().__init__()
        self.growth = growth
        self.convs = nn.ModuleList(
            nn.Conv2d(
                n_inputs if i == 0 else growth,
                growth * (n_layers - i),
                3,
                padding=2**i,
                dilation=2**i,
                bias=False,
            )
            for i in range(n_layers)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(growth) for _ in range(n_layers))

    def forward(self, features: Features) -> Features:
        """All layers' outputs, concatenated: growth * n_layers features."""
        outputs: list[Tensor] = []
        waiting: Tensor | None = None
        for i, norm in enumerate(self.norms):
            yielded = self.convs[i](features) if self.training else self._scaled_conv(i, features)
            if waiting is not None:
                yielded += waiting
            own = yielded[:, : self.growth]
            features = torch.relu(norm(own) if self.training else own)
            waiting = yielded[:, self.growth :]
            outputs.append(features)
        return torch.cat(outputs, 1)

    def scaled(self, i: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Weight and bias of convolution i with all batch norms that it feeds, which stand still outside training."""
        scales, shifts = zip(*(scale_and_shift(cast("nn.BatchNorm2d", norm)) for norm in self.norms), strict=True)
        scale = torch.cat(scales[i:])
        shift = F.pad(shifts[i], (0, len(scale) - self.growth))
        weight = cast("nn.Conv2d", self.convs[i]).weight * scale[:, None, None, None]
        return weight.to(dtype), shift.to(dtype)

    def _scaled_conv(self, i: int, features: Features) -> Features:
        return F.conv2d(features, *self.scaled(i, features.dtype), padding=2**i, dilation=2**i)


class D3Block(nn.Module):
    """D2 blocks, densely connected: each sees the input and all blocks before it."""

    def __init__(self, n_inputs: int, growth: int, n_layers: int, n_blocks: int = 2) -> None:
        super().__init__()
        widths = list(accumulate([n_inputs] + [growth * n_layers] * n_blocks))
        self.n_outputs = widths[-1]
        self.blocks = nn.ModuleList(D2Block(width, growth, n_layers) for width in widths[:-1])

    def forward(self, features: Features) -> Features:
        """Input and all blocks' outputs, concatenated: n_outputs features."""
        for block in self.blocks:
            features = torch.cat((features, block(features)), 1)
        return features
