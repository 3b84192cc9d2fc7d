"""Densely connected multi-dilated convolutions.

Reference: Takahashi, Mitsufuji, "D3Net", arXiv 2010.01733.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor, nn

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
        for conv, norm in zip(self.convs, self.norms, strict=True):
            yielded = conv(features)
            if waiting is not None:
                yielded = yielded + waiting
            features = torch.relu_(norm(yielded[:, : self.growth]))
            waiting = yielded[:, self.growth :]
            outputs.append(features)
        return torch.cat(outputs, 1)


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
