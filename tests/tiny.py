"""A bundle of tiny random networks, for tests that need a whole system but no quality."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from danna_sep import weights
from danna_sep.models import XUMX, Demucs, DemucsConfig, UNet, UNetConfig, XUMXConfig


def write_bundle(folder: Path) -> None:
    """Three weights files and their registry: what the presets of the shipped bundle need."""
    torch.manual_seed(0)
    models = {
        "xumx": XUMX(XUMXConfig(hidden=8, n_lstm_layers=1)),
        "unet": UNet(UNetConfig(growth=2, n_layers=(1,) * 6, bottleneck_width=16, n_heads=2, head_width=4)),
        "demucs": Demucs(DemucsConfig(width=4, n_layers=4)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        weights.write(
            folder / f"provisional-{name}.safetensors",
            model=name,
            config=asdict(model.config),
            entries=model.state_dict(),
            metadata={"licence": "MIT", "origin": "made in a test"},
            dtype=torch.float16,
        )
    weights.register_shipped(folder)
