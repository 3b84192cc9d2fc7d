"""The U-Net, to separate with on a CPU: the same network, of which only the weights as they are used are left."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from danna_sep.models.convolution import fuses
from danna_sep.models.unet import UNet
from danna_sep.models.unet_layers import can_stream, layers_of
from danna_sep.models.unet_stream import UNetStream
from danna_sep.models.xumx import XUMX
from danna_sep.shapes import Magnitude, StemMagnitudes


class FramedUNet(nn.Module):
    """Masks from magnitudes, without gradients.

    Batch norms are parts of the weights, which oneDNN lays out once for all tracks: the parameters of the model that
    it is made of are needed no more.

    Args:
        model: Outside training; see `can_stream`.
    """

    def __init__(self, model: UNet) -> None:
        super().__init__()
        self.config = model.config
        self.layers = layers_of(model)
        self.eval()

    @torch.no_grad()
    def forward(self, magnitude: Magnitude) -> StemMagnitudes:
        """As `UNet.forward`, but for rounding: of the network's precision, for here nothing waits long."""
        stream = UNetStream(replace(self.layers, waits_coarsely=False))
        stream.hear(magnitude, True)
        return torch.cat([stream.masks(settled) for settled in iter(stream.settled, None)], -1)


def framed(model: XUMX | UNet) -> XUMX | UNet | FramedUNet:
    """A `FramedUNet` where that is faster; else the model as it is."""
    if isinstance(model, UNet) and not model.training and can_stream(model) and fuses(model.output.weight):
        return FramedUNet(model)
    return model
