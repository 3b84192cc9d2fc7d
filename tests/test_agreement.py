"""Our system gives the original's numbers, with the original's parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from fill import fill, generator, mixture
from torch import Tensor

from danna_sep.convert import from_original, original_separator, original_system
from danna_sep.models import Demucs
from danna_sep.separators import MaskSeparator

HERE = Path(__file__).parent / "reference"
GOLDEN = np.load(HERE / "golden.npz")
SHAPES = json.loads((HERE / "state_dicts.json").read_text())


def entries(model: str, seed: int = 1) -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(fill(seed, f"{model}.{name}", tuple(shape)))
        for name, (shape, _) in SHAPES[model].items()
    }


@pytest.fixture(scope="module")
def parameters() -> Mapping[str, dict[str, Tensor]]:
    return {model: entries(model) for model in ("xumx", "unet", "demucs")}


def relative_error(ours: np.ndarray, golden: np.ndarray) -> float:
    return float(np.abs(ours - golden).max() / np.abs(golden).max())


def below_signal_db(ours: np.ndarray, golden: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(golden**2) / np.sum((ours - golden) ** 2)))


@pytest.mark.parametrize("name", ["xumx", "unet"])
def test_masks(name: str, parameters: Mapping[str, dict[str, Tensor]]) -> None:
    magnitude = 5 * np.abs(generator(1, "mag").standard_normal((1, 2, 2049, 96)))
    model = from_original(parameters[name])
    mask = model(torch.from_numpy(magnitude.astype(np.float32))).numpy()[..., ::3, ::8]
    assert relative_error(mask, GOLDEN[f"mag_{name}_mask"]) < 1e-5


def test_demucs(parameters: Mapping[str, dict[str, Tensor]]) -> None:
    model = from_original(parameters["demucs"])
    assert isinstance(model, Demucs)
    stems = model.unpadded(torch.from_numpy(mixture(1, 2.0)[None])).numpy()[..., ::10]
    assert relative_error(stems, GOLDEN["demucs_2s"]) < 1e-5


def test_whole_track_separation_and_blend(parameters: Mapping[str, dict[str, Tensor]]) -> None:
    track = torch.from_numpy(mixture(2, 4.0))
    system = original_system(parameters)
    for name, separator in system.separators.items():
        stems = separator(track).numpy()[..., ::20]
        assert below_signal_db(stems, GOLDEN[f"separated_{name}"]) > 110, name
    assert below_signal_db(system(track).numpy()[..., ::20], GOLDEN["separated_blend"]) > 110


def test_shifts(parameters: Mapping[str, dict[str, Tensor]]) -> None:
    separator = original_separator(from_original(parameters["demucs"]), shifts=3)
    stems = separator(torch.from_numpy(mixture(2, 4.0))).numpy()[..., ::20]
    assert below_signal_db(stems, GOLDEN["separated_demucs_3shifts"]) > 110


@pytest.mark.parametrize("name", ["xumx", "unet"])
def test_single_precision_is_as_good(name: str, parameters: Mapping[str, dict[str, Tensor]]) -> None:
    """What users run filters in single precision; the original filtered in double."""
    separator = MaskSeparator(from_original(parameters[name]))
    stems = separator(torch.from_numpy(mixture(2, 4.0))).numpy()[..., ::20]
    assert below_signal_db(stems, GOLDEN[f"separated_{name}"]) > 100
