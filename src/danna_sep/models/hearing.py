"""What networks can hear."""

from __future__ import annotations

from torch import nn

from danna_sep.errors import AudioError, UnsupportedChannels
from danna_sep.shapes import Mixture


def check_mixture(mixture: Mixture, model: nn.Module) -> None:
    """Raise AudioError unless a mixture has samples, in as many channels as a network hears: two if it does not say."""
    n_channels = getattr(getattr(model, "config", None), "n_channels", 2)
    if mixture.dim() < 2 or mixture.shape[-2] != n_channels:
        shape = tuple(mixture.shape)
        raise UnsupportedChannels(f"a mixture has the axes channel and time, with {n_channels} channels, not {shape}")
    if not mixture.numel():
        raise AudioError("the mixture has no samples")
