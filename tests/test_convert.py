"""The original's checkpoints: recognised, checked, imported, used."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from danna_sep import load, weights
from danna_sep.convert import from_original, import_checkpoint, original_system, recognise
from danna_sep.errors import ConfigError, MissingWeights, UnknownCheckpoint
from danna_sep.models import UNet
from danna_sep.separators import Blend
from test_agreement import SHAPES, entries


@pytest.fixture(scope="module")
def unet_entries() -> dict[str, torch.Tensor]:
    return entries("unet")


def test_models_are_recognised_by_their_entries() -> None:
    for model, shapes in SHAPES.items():
        assert recognise({name: torch.empty(0) for name in shapes}) == model
    with pytest.raises(UnknownCheckpoint):
        recognise({"conv.weight": torch.empty(0)})


@pytest.mark.parametrize("model", ["xumx", "unet", "demucs"])
def test_a_missing_surplus_or_misshapen_entry_is_named(model: str) -> None:
    whole = {name: torch.empty(shape, device="meta") for name, (shape, _) in SHAPES[model].items()}
    names = list(whole)
    for name in (names[-1], names[len(names) // 2]):
        with pytest.raises(UnknownCheckpoint, match="is missing"):
            from_original({key: value for key, value in whole.items() if key != name})
        with pytest.raises(UnknownCheckpoint, match="has shape"):
            from_original({**whole, name: torch.empty(3, 3, device="meta")})
    with pytest.raises(UnknownCheckpoint, match="unknown entry extra"):
        from_original({**whole, "extra": torch.empty(1)})


def test_a_training_checkpoint_is_imported_and_used(
    unet_entries: dict[str, torch.Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """File of the original's -> safetensors -> separator, with nothing changed on the way."""
    torch.save({"model": unet_entries, "epoch": 3}, tmp_path / "unet_attention.pth")
    entry = import_checkpoint(tmp_path / "unet_attention.pth")
    assert (entry.name, entry.model) == ("original-unet", "unet")
    file = weights.load("original-unet")
    assert file.config["mask_padding"] is False
    expected = from_original(unet_entries).state_dict()
    assert file.entries.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(file.entries[name], value)
    with pytest.raises(MissingWeights, match="weights fetch original"):
        load("original")


def test_importing_something_else_writes_nothing(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UnknownCheckpoint, match=r"other\.pth"):
        import_checkpoint(tmp_path / "other.pth")
    assert weights.entries() == [entry for entry in weights.entries() if entry.name.startswith("provisional")]


def test_the_fast_mode_and_what_is_refused(
    unet_entries: dict[str, torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError):
        original_system({"unet": unet_entries})
    with pytest.raises(UnknownCheckpoint, match="those of unet"):
        original_system({"unet": unet_entries, "demucs": unet_entries})
    with caplog.at_level(logging.WARNING):
        Blend({"unet": _Zero(), "demucs": _Zero()}, {"unet": (0.4, 0.27, 0.5, 0.6), "demucs": (0.6, 0.73, 0.5, 0.4)})
    assert not caplog.records


def test_shorter_than_a_block_of_the_unet(unet_entries: dict[str, torch.Tensor]) -> None:
    model = from_original(unet_entries)
    assert isinstance(model, UNet)
    assert model(torch.rand(1, 2, 2049, 3)).shape == (1, 4, 2, 2049, 3)


class _Zero:
    sources = ("drums", "bass", "other", "vocals")
    sample_rate = 44100

    def __call__(self, mixture: torch.Tensor) -> torch.Tensor:
        return torch.zeros(4, *mixture.shape)
