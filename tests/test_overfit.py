"""Every recipe's loss, on one batch again and again, falls far below where it began, and the stems come out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from danna_sep.evaluation.metrics import mdx_sdr_db
from danna_sep.models import build
from danna_sep.shapes import Stems
from danna_sep.training.objective import objective
from danna_sep.training.recipes import RECIPES, find_recipe
from danna_sep.training.validate import separator_of

SIZES = {
    "xumx": {"n_bins": 256, "hidden": 32, "n_lstm_layers": 1},
    "unet": {"n_bins": 256, "growth": 6, "n_layers": (2, 2, 2), "bottleneck_width": 16, "n_heads": 2, "head_width": 8},
    "demucs": {"width": 8, "n_layers": 4},
}
QUICK = ("xumx", "unet", "demucs")


def one_batch() -> Stems:
    """Half a second of clicks, a low tone, a chord, and a sweep; below the 2.7 kHz that the small models hear."""
    rng = np.random.default_rng(0)
    clock = np.arange(22050) / 44100
    noise = np.convolve(rng.standard_normal(len(clock)), np.hanning(64), "same")
    stems = [
        noise * (clock % 0.125 < 0.02) / 4,
        np.sin(2 * np.pi * 80 * clock),
        np.sin(2 * np.pi * 500 * clock) + np.sin(2 * np.pi * 630 * clock),
        np.sin(2 * np.pi * (900 * clock + 800 * clock**2)),
    ]
    panned = [np.stack([stem * (1 - pan), stem * pan]) for stem, pan in zip(stems, (0.5, 0.4, 0.7, 0.3), strict=True)]
    return torch.from_numpy(0.3 * np.stack(panned)).float()[None]


N_STEPS = {"demucs-baseline": 360}
"""Its one decoder without groups of sources learns more slowly."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in RECIPES]
)
def test_one_batch_is_learnt(name: str) -> None:
    recipe = find_recipe(name)
    torch.manual_seed(0)
    config = {**recipe.config, **SIZES[recipe.model], **({} if recipe.model == "demucs" else {"dropout": 0.0})}
    config.pop("separate_decoders", None) if recipe.model != "demucs" else None
    model = build(recipe.model, config).train()
    optimiser = torch.optim.Adam(model.parameters(), 1e-2 if recipe.model != "demucs" else 3e-3)
    stems = one_batch()
    known = torch.ones(1, 4, dtype=torch.bool)
    losses = []
    for _ in range(N_STEPS.get(name, 120)):
        loss = objective(model, stems, known, recipe.loss, model.config).loss
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    separated = separator_of(model.train())(stems.sum(1)).detach()
    sdr_db = mdx_sdr_db(stems, separated)[0]
    quarter_db = mdx_sdr_db(stems, stems.sum(1, keepdim=True).expand_as(stems) / 4)[0]
    print(f"{name}: loss {losses[0]:.4g} -> {losses[-1]:.4g}; SDR {sdr_db.mean():.1f} dB")
    assert losses[-1] < 0.2 * losses[0]
    assert sdr_db.mean() > quarter_db.mean() + 6
