"""The original's checkpoints: recognised, checked, imported, used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from danna_sep import load, weights
from danna_sep.convert import (
    OriginalDemucs,
    from_original,
    import_checkpoint,
    original_separator,
    original_system,
    recognise,
)
from danna_sep.errors import ConfigError, MissingWeights, UnknownCheckpoint
from danna_sep.models import Demucs, DemucsConfig, UNet
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


def test_a_training_checkpoint_is_imported_and_used(unet_entries: dict[str, torch.Tensor], tmp_path: Path) -> None:
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
    assert not weights.user_folder().exists()


def test_what_the_original_system_refuses(unet_entries: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ConfigError):
        original_system({"unet": unet_entries})
    with pytest.raises(UnknownCheckpoint, match="those of unet"):
        original_system({"unet": unet_entries, "demucs": unet_entries})
    with pytest.raises(ConfigError, match="shifts"):
        original_separator(from_original(unet_entries), shifts=0)


def test_the_fast_mode() -> None:
    """Two models, with weights of their own that sum to one."""
    system = original_system({"unet": entries("unet"), "demucs": entries("demucs")})
    assert system.weights == {"unet": (0.4, 0.27, 0.5, 0.6), "demucs": (0.6, 0.73, 0.5, 0.4)}
    assert list(system.separators) == ["unet", "demucs"]


def test_the_originals_demucs_is_clamped_and_cut_off() -> None:
    """Quirks: +-0.99, and zeros where the network's output does not reach."""
    model = Demucs(DemucsConfig(width=2, n_layers=3)).requires_grad_(False)
    mixture = 100 * torch.randn(2, 30001, generator=torch.Generator().manual_seed(0))
    stems = OriginalDemucs(model)(mixture)
    assert stems.shape == (4, 2, 30001)
    assert stems.abs().max() == pytest.approx(0.99)


def test_shorter_than_a_block_of_the_unet(unet_entries: dict[str, torch.Tensor]) -> None:
    model = from_original(unet_entries)
    assert isinstance(model, UNet)
    assert model(torch.rand(1, 2, 2049, 3)).shape == (1, 4, 2, 2049, 3)
