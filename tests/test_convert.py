"""The original's checkpoints: recognised, checked, imported, used."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from command_line import call
from danna_sep import load, weights
from danna_sep.convert import (
    ORIGINAL_AUTHORS,
    ORIGINAL_LICENCE,
    OriginalDemucs,
    from_original,
    import_checkpoint,
    original_separator,
    original_system,
)
from danna_sep.errors import ConfigError, MissingWeights, UnknownCheckpoint
from danna_sep.foreign_names import recognise
from danna_sep.models import Demucs, DemucsConfig, UNet
from danna_sep.types import SOURCES
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
    weight = next(name for name in reversed(names) if name.endswith(".weight"))
    with pytest.raises(UnknownCheckpoint, match=r"has numbers of the type torch\.int64"):
        from_original({**whole, weight: torch.empty(whole[weight].shape, dtype=torch.int64, device="meta")})


def test_a_training_checkpoint_is_imported_and_used(unet_entries: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """File of the original's -> safetensors -> separator, with nothing changed on the way."""
    torch.save({"model": unet_entries, "epoch": 3}, tmp_path / "unet_attention.pth")
    entry = import_checkpoint(tmp_path / "unet_attention.pth", is_released=True)
    assert (entry.name, entry.model) == ("original-unet", "unet")
    assert (entry.origin, entry.licence) == (ORIGINAL_AUTHORS, ORIGINAL_LICENCE)
    file = weights.load("original-unet")
    assert file.config["mask_padding"] is False
    expected = from_original(unet_entries).state_dict()
    assert file.entries.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(file.entries[name], value)
    with pytest.raises(MissingWeights, match="weights fetch original"):
        load("original")


@pytest.mark.parametrize("name", [b"u_\xff.pth", "u_ü\n.pth".encode()])
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_files_of_any_name_are_imported(
    unet_entries: dict[str, torch.Tensor], tmp_path: Path, name: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is noted of it is text of one line, as is what is shown."""
    path = tmp_path / os.fsdecode(name)
    torch.save(unet_entries, path)
    outcome = call(capfd, "weights", "import", path)
    assert (outcome.code, outcome.err) == (0, "")
    assert len(outcome.out.splitlines()) == 1
    noted = weights.load("original-unet").metadata["imported_from"]
    assert noted == ("u_\\udcff.pth" if b"\xff" in name else "u_ü\\n.pth")


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


def baseline_entries() -> dict[str, torch.Tensor]:
    """A public X-UMX's names and shapes, with random numbers."""
    rng = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng) / 20

    entries = {"encoder.0.window": torch.hann_window(4096), "decoder.window": torch.hann_window(4096)}
    for source in ("bass", "drums", "vocals", "other"):
        for norm, width in (("enc.{}.enc.1", 512), ("dec.{}.dec.1", 512), ("dec.{}.dec.4", 4098)):
            prefix = "layer_" + norm.format(source)
            entries |= {f"{prefix}.{leaf}": random(width) for leaf in ("weight", "bias", "running_mean")}
            entries[f"{prefix}.running_var"] = random(width).abs() + 0.5
            entries[f"{prefix}.num_batches_tracked"] = torch.tensor(7)
        entries[f"layer_enc.{source}.enc.0.weight"] = random(512, 2974)
        entries[f"layer_dec.{source}.dec.0.weight"] = random(512, 1024)
        entries[f"layer_dec.{source}.dec.3.weight"] = random(4098, 512)
        lstm = torch.nn.LSTM(512, 256, 3, bidirectional=True)
        entries |= {f"layer_lstm.{source}.{name}": random(*value.shape) for name, value in lstm.named_parameters()}
        for end, n_bins in (("input", 1487), ("output", 2049)):
            entries[f"mean_scale.{end}_mean_{source}"] = random(n_bins)
            entries[f"mean_scale.{end}_scale_{source}"] = random(n_bins) + 1
    return entries


def baseline_mask(entries: dict[str, torch.Tensor], magnitude: torch.Tensor) -> torch.Tensor:
    """The published network, source by source: (channel, bin, frame) to (source, channel, bin, frame)."""

    def norm(prefix: str, values: torch.Tensor) -> torch.Tensor:
        mean, variance, weight, bias = (
            entries[f"{prefix}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        return (values - mean) / torch.sqrt(variance + 1e-5) * weight + bias

    frames = magnitude.permute(2, 0, 1)
    encoded = {}
    for source in SOURCES:
        scaled = frames[..., :1487] + entries[f"mean_scale.input_mean_{source}"]
        scaled = (scaled * entries[f"mean_scale.input_scale_{source}"]).reshape(len(frames), -1)
        projected = scaled @ entries[f"layer_enc.{source}.enc.0.weight"].T
        encoded[source] = torch.tanh(norm(f"layer_enc.{source}.enc.1", projected))
    shared = sum(encoded.values()) / 4
    joined = torch.zeros(len(frames), 1024)
    for source in SOURCES:
        lstm = torch.nn.LSTM(512, 256, 3, bidirectional=True)
        prefix = f"layer_lstm.{source}."
        lstm.load_state_dict({key.removeprefix(prefix): entries[key] for key in entries if key.startswith(prefix)})
        with torch.no_grad():
            joined += torch.cat((encoded[source], lstm(shared)[0]), -1) / 4
    masks = []
    for source in SOURCES:
        hidden = norm(f"layer_dec.{source}.dec.1", joined @ entries[f"layer_dec.{source}.dec.0.weight"].T)
        out = norm(f"layer_dec.{source}.dec.4", torch.relu(hidden) @ entries[f"layer_dec.{source}.dec.3.weight"].T)
        out = out.reshape(len(frames), 2, 2049) * entries[f"mean_scale.output_scale_{source}"]
        masks.append(torch.relu(out + entries[f"mean_scale.output_mean_{source}"]).permute(1, 2, 0))
    return torch.stack(masks)


def test_the_public_xumx_is_imported_to_start_from(tmp_path: Path) -> None:
    entries = baseline_entries()
    magnitude = torch.rand(2, 2049, 6, generator=torch.Generator().manual_seed(1))
    model = from_original(entries)
    expected = baseline_mask(entries, magnitude)
    assert (model(magnitude[None])[0] - expected).abs().max() < 1e-4 * expected.abs().max()

    torch.save({"model_name": "XUMX", "state_dict": entries, "model_args": {"max_bin": 1487}}, tmp_path / "p.pth")
    assert import_checkpoint(tmp_path / "p.pth").name == "xumx-baseline"
    file = weights.load("xumx-baseline")
    assert file.model == "xumx"
    assert torch.equal(file.entries["input_mean"][3], entries["mean_scale.input_mean_vocals"])

    del entries["layer_dec.other.dec.1.bias"]
    with pytest.raises(UnknownCheckpoint, match=r"decoder_norm\.bias is missing"):
        from_original(entries)
