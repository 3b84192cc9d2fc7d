"""The recipes: the six rows of the paper's table, the slides' ablation of losses, and the small models that ship."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from danna_sep.errors import ConfigError
from danna_sep.training.augment import AugmentConfig
from danna_sep.training.recipe import DataConfig, LossConfig, OptimiserConfig, Recipe, ScheduleConfig
from danna_sep.types import SAMPLE_RATE

_FRAME_S = 1024 / SAMPLE_RATE
_OPEN_UNMIX_AUGMENTATION = AugmentConfig(p_flip=0.0, p_pitch=0.0, p_speed=0.0)
"""What the baselines' own authors used: gain and channel swap."""

_XUMX = Recipe(
    "X-UMX, complex error after the Wiener filter: the paper's",
    "xumx",
    init="xumx-baseline",
    loss=LossConfig("complex", n_wiener_iterations=1),
    data=DataConfig(excerpt_s=6.0, excerpts_per_track=64),
    optimiser=OptimiserConfig(lr=1e-4, weight_decay=1e-5, batch_size=4),
    schedule=ScheduleConfig("step", 0.3, epoch=45),
    epochs=70,
    source="Yu and Cheuk, 2021",
)
_UNET = Recipe(
    "D3 U-Net with local attention: the paper's",
    "unet",
    loss=LossConfig("complex"),
    data=DataConfig(excerpt_s=11.88, excerpts_per_track=32),
    optimiser=OptimiserConfig(lr=2e-4, batch_size=16),
    schedule=ScheduleConfig("step", 0.3, epoch=560),
    epochs=700,
    source="Yu and Cheuk, 2021",
)
_DEMUCS = Recipe(
    "Demucs with four decoders: the paper's",
    "demucs",
    loss=LossConfig("waveform"),
    data=DataConfig(excerpt_s=10.0, excerpts_per_track=150),
    optimiser=OptimiserConfig(lr=3e-4, batch_size=3, accumulate=21),
    schedule=ScheduleConfig("plateau", 0.3, patience=500),
    epochs=340,
    precision="f16",
    source="Yu and Cheuk, 2021",
)
_SMALL_LOSS = LossConfig("complex", time_weight=0.0, weighting="inverse_magnitude")
_SMALL_DATA = DataConfig(excerpt_s=127 * _FRAME_S, excerpts_per_track=200, redraw=0.9, valid_s=30.0)
_SMALL_SCHEDULE = ScheduleConfig("cosine", warmup_steps=50)

RECIPES: Final[Mapping[str, Recipe]] = {
    "xumx-baseline": Recipe(
        "X-UMX as published: magnitude error, no Wiener filter in the spectral loss",
        "xumx",
        loss=LossConfig("real"),
        data=DataConfig(excerpt_s=6.0, excerpts_per_track=64),
        augment=_OPEN_UNMIX_AUGMENTATION,
        optimiser=OptimiserConfig(lr=1e-3, weight_decay=1e-5, batch_size=14),
        schedule=ScheduleConfig("plateau", 0.3, patience=80),
        epochs=1000,
        source="Sawata et al., 2021, by the constants of their public recipe for MUSDB18",
    ),
    "xumx": _XUMX,
    "xumx-real-wiener": replace(
        _XUMX,
        summary="the slides' ablation: magnitude error, with the Wiener filter in the loss",
        loss=LossConfig("real", n_wiener_iterations=1),
    ),
    "xumx-complex": replace(
        _XUMX, summary="the slides' ablation: complex error, without the Wiener filter", loss=LossConfig("complex")
    ),
    "unet": _UNET,
    "unet-biaxial": replace(
        _UNET, summary="D3 U-Net with biaxial LSTMs as its bottleneck", config={"bottleneck": "biaxial"}
    ),
    "demucs-baseline": replace(
        _DEMUCS,
        summary="Demucs as published: 64 channels, one decoder",
        config={"width": 64, "separate_decoders": False},
        source="Défossez et al., 2019; the training as that of the four decoders, so that only the network differs",
    ),
    "demucs": _DEMUCS,
    "small-xumx": Recipe(
        "a small X-UMX, for a laptop",
        "xumx",
        config={"hidden": 192, "n_lstm_layers": 2, "dropout": 0.2},
        loss=_SMALL_LOSS,
        data=_SMALL_DATA,
        optimiser=OptimiserConfig(lr=1e-3, batch_size=4, clip_norm=5.0, ema=0.998),
        schedule=_SMALL_SCHEDULE,
        epochs=30,
        n_wiener_iterations=0,
    ),
    "small-unet": Recipe(
        "a small U-Net, for a laptop",
        "unet",
        config={
            "input_power": 0.3,
            "growth": 8,
            "n_layers": (1, 2, 2, 2, 2, 2),
            "bottleneck_width": 128,
            "dropout": 0.1,
        },
        loss=_SMALL_LOSS,
        data=_SMALL_DATA,
        optimiser=OptimiserConfig(lr=1.5e-3, batch_size=2, clip_norm=5.0, ema=0.998),
        schedule=_SMALL_SCHEDULE,
        epochs=30,
        n_wiener_iterations=0,
        precision="bf16",
    ),
    "small-demucs": Recipe(
        "a small Demucs with four decoders, for a laptop",
        "demucs",
        config={"width": 16, "n_layers": 5},
        loss=LossConfig("waveform"),
        data=_SMALL_DATA,
        optimiser=OptimiserConfig(lr=4e-4, batch_size=2, clip_norm=5.0, ema=0.998),
        schedule=_SMALL_SCHEDULE,
        epochs=30,
        precision="bf16",
    ),
}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in RECIPES:
        raise ConfigError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]
