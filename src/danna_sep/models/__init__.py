"""The networks: tensor in, tensor out; no files, no STFT."""

from __future__ import annotations

from danna_sep.models.build import MODELS, Model, ModelConfig, build
from danna_sep.models.demucs import Demucs, DemucsConfig
from danna_sep.models.unet import UNet, UNetConfig
from danna_sep.models.xumx import XUMX, XUMXConfig

__all__ = [
    "MODELS",
    "XUMX",
    "Demucs",
    "DemucsConfig",
    "Model",
    "ModelConfig",
    "UNet",
    "UNetConfig",
    "XUMXConfig",
    "build",
]
