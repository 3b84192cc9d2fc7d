"""What networks can hear."""

from __future__ import annotations

import torch
from torch import nn

from danna_sep.errors import AudioError, UnsupportedChannels
from danna_sep.shapes import Mixture


def check_mixture(mixture: Mixture, model: nn.Module) -> None:
    """Raise AudioError unless a mixture is one: samples in single or double precision, in as many channels as heard.

    These are two if the network does not say.
    """
    n_channels = getattr(getattr(model, "config", None), "n_channels", 2)
    if mixture.dim() < 2 or mixture.shape[-2] != n_channels:
        shape = tuple(mixture.shape)
        raise UnsupportedChannels(f"a mixture has the axes channel and time, with {n_channels} channels, not {shape}")
    if not mixture.numel():
        raise AudioError("the mixture has no samples")
    if mixture.dtype not in (torch.float32, torch.float64):
        raise AudioError(f"the mixture must be float32 or float64 with full scale 1.0, not {mixture.dtype}")
