"""A U-Net among wider features, whose number is a multiple of eight: the same masks and gradients, faster on a GPU.

What a U-Net hears are two channels, which every layer sees beside what others found: 2, 18, 34, 98 features. On a GPU
the products of bfloat16, channels last, need multiples of eight to be fast. So six channels of silence are heard, too.
The weights that meet them, and those of features that pad a widening, are zero and stay so, for so are their gradients.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from places import index, places
from torch import Tensor, nn

from danna_sep.models.unet import UNet

MULTIPLE = 8


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
        self._places = places(unet, self.unet)
        self.to(output.weight)
        with torch.no_grad():
            for name, entry in unet.state_dict().items():
                wide = self.unet.state_dict()[name]
                if wide.shape != entry.shape and wide.dim() == 4:
                    wide.zero_()
                wide[index(self._places, name, wide)] = entry

    def forward(self, magnitude: Tensor) -> Tensor:
        """The U-Net's masks."""
        return self.unet(magnitude)

    def entries(self) -> dict[str, Tensor]:
        """The U-Net's state."""
        return {name: wide[index(self._places, name, wide)] for name, wide in self.unet.state_dict().items()}


def _with_silence(n_silent: int, module: nn.Module, heard: tuple[Tensor]) -> tuple[Tensor]:
    return (F.pad(heard[0], (0, 0, 0, 0, 0, n_silent)),)
