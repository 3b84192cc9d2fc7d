"""Networks in bfloat16 and whole numbers: near single precision, themselves in it outside, and where that is fast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

import danna_sep
from danna_sep.errors import ConfigError
from danna_sep.models import XUMX, Demucs, DemucsConfig, UNet, UNetConfig, XUMXConfig, precision, processor
from danna_sep.models.precision import has_fast_bf16, has_fast_int8, lower, lowers, resolve_precision
from danna_sep.models.unet_framed import FramedUNet
from danna_sep.models.unet_layers import UNetLayers
from danna_sep.separators import MaskSeparator
from danna_sep.training import processes
from danna_sep.training.processes import arithmetic_on

EXCERPT = Path(__file__).parent.parent / "examples" / "caesium-excerpt" / "mixture.flac"

on_such_processors = pytest.mark.skipif(not has_fast_int8(), reason="this processor has no sums of eight bits")

MODELS: dict[str, tuple[type[nn.Module], object]] = {
    "xumx": (XUMX, XUMXConfig(hidden=8, n_lstm_layers=1)),
    "unet": (UNet, UNetConfig(growth=2, n_layers=(2, 1, 1), bottleneck_width=16, n_heads=2, head_width=4)),
    "unet-biaxial": (
        UNet,
        UNetConfig(growth=2, n_layers=(2, 1, 1), bottleneck="biaxial", bottleneck_width=16),
    ),
    "demucs": (Demucs, DemucsConfig(width=4, n_layers=4)),
    "demucs-baseline": (Demucs, DemucsConfig(width=4, n_layers=4, separate_decoders=False)),
}


def distance_db(reference: Tensor, other: Tensor) -> float:
    """Level of the reference over that of the difference."""
    return float(10 * torch.log10(reference.square().sum() / (reference - other).square().sum().clamp(min=1e-30)))


@pytest.mark.parametrize("name", MODELS)
def test_near_single_precision(name: str) -> None:
    """Eight bits of mantissa: 48 dB a rounding, some of which add up."""
    build, config = MODELS[name]
    torch.manual_seed(0)
    model = build(config).eval()
    heard = torch.rand(2, 2, 2049, 20) if "demucs" not in name else torch.randn(2, 2, 20000)
    with torch.no_grad():
        single = model(heard)
        lower(model)
        lowered = model(heard)
    assert lowered.dtype == single.dtype == torch.float32
    assert 30 < distance_db(single, lowered) < 100


@pytest.mark.parametrize(
    ("name", "other", "least_db"),
    [
        *((name, "bf16", 28) for name in ("danna", "xumx", "unet", "demucs")),
        *(pytest.param(name, "int8", 22, marks=on_such_processors) for name in ("danna", "unet")),
    ],
)
@pytest.mark.parametrize("gain", [0.05, 1.0, 3.0])
def test_shipped_weights_lose_nothing_audible(name: str, other: str, least_db: float, gain: float) -> None:
    """Ten seconds of a real song, as it is, faint or too loud: the difference is far below what the stems lack."""
    mixture = gain * soundfile.read(EXCERPT, frames=441000, dtype="float32")[0].T
    single, lowered = (danna_sep.separate(mixture, 44100, name, precision=each) for each in ("f32", other))
    for stem, samples in single.items():
        assert np.isfinite(lowered[stem]).all()
        assert distance_db(torch.from_numpy(samples), torch.from_numpy(lowered[stem])) > least_db, stem


def test_automatic_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    for whole, fast, chosen in (
        (False, True, "bf16"),
        (False, False, "f32"),
        (True, True, "int8"),
        (True, False, "int8"),
    ):
        monkeypatch.setattr(precision, "has_fast_int8", lambda whole=whole: whole)
        monkeypatch.setattr(precision, "has_fast_bf16", lambda fast=fast: fast)
        assert resolve_precision("auto", "cpu") == chosen
        assert lowers(chosen) == fast
        assert resolve_precision("auto", "cuda") == "f32"
        assert resolve_precision("auto", "cpu", whole=True) == "f32"
        assert [resolve_precision(each, "cpu", whole=True) for each in ("f32", "bf16")] == ["f32", "bf16"]


def test_processor_without_instructions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """PyTorch is asked first, the system where it does not say, and no file means no."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(processor, "_CPU_INFO", tmp_path / "cpuinfo")
    assert not has_fast_bf16()
    (tmp_path / "cpuinfo").write_text("flags : fpu avx2 avx512f\n")
    assert not has_fast_bf16()
    (tmp_path / "cpuinfo").write_text("flags : fpu avx2 avx512_bf16 avx512f\n")
    assert has_fast_bf16()
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False, raising=False)
    monkeypatch.setattr(precision, "sums_exactly", lambda: True)
    assert not has_fast_int8()
    (tmp_path / "cpuinfo").write_text("flags : fpu avx2 avx512_vnni avx512f\n")
    assert has_fast_int8()
    (tmp_path / "cpuinfo").write_text("flags : fpu avx2 avx_vnni\n")
    assert has_fast_int8()
    monkeypatch.setattr(precision, "sums_exactly", lambda: False)
    assert not has_fast_int8()


def test_default_is_the_automatic_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(precision, "has_fast_bf16", lambda fast=fast: fast)
        separator = danna_sep.load("xumx", device="cpu")
        model = separator.separators["xumx"].model  # type: ignore[attr-defined]
        assert model.encoder.weight.dtype == dtype
        assert model.encoder_norm.weight.dtype == torch.float32


def waits_coarsely(separator: danna_sep.Separator) -> bool:
    """Whether the U-Net of the preset `unet` does."""
    assert isinstance(separator, danna_sep.Blend)
    unet = separator.separators["unet"]
    assert isinstance(unet, MaskSeparator)
    assert isinstance(unet.model, UNet | FramedUNet)
    return (unet.model.layers if isinstance(unet.model, FramedUNet) else unet.model).waits_coarsely


def test_what_waits_is_coarse_unless_single_precision_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors without fast bfloat16 need the memory no less; who asks for single precision gets it, to the last."""
    mixture = torch.from_numpy(soundfile.read(EXCERPT, frames=441000, dtype="float32")[0].T)
    stems = {}
    monkeypatch.setattr(precision, "has_fast_bf16", lambda: False)
    monkeypatch.setattr(precision, "has_fast_int8", lambda: False)
    for asked, coarse in (("auto", True), ("bf16", True), ("f32", False)):
        separator = danna_sep.load("unet", device="cpu", precision=asked)
        assert waits_coarsely(separator) == coarse
        if asked != "bf16":
            stems[asked] = torch.stack(list(danna_sep.separate(mixture, 44100, separator).values()))
    assert 40 < distance_db(stems["f32"], stems["auto"]) < 100
    assert not waits_coarsely(danna_sep.load("unet", device="cpu", precision="auto", whole=True))


def test_training_falls_back_where_bfloat16_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipes of small models ask for bfloat16: without instructions for it they would take ten times as long."""
    for fast, stands_in in ((True, "bf16"), (False, "f32")):
        monkeypatch.setattr(processes, "has_fast_bf16", lambda fast=fast: fast)
        assert [arithmetic_on("cpu", each) for each in ("f32", "bf16", "f16")] == ["f32", stands_in, stands_in]
        assert [arithmetic_on("cuda", each) for each in ("f32", "bf16", "f16")] == ["f32", "bf16", "f16"]
        assert [arithmetic_on("mps", each) for each in ("f32", "bf16", "f16")] == ["f32", "bf16", "bf16"]


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no precision 'half'; there are auto, f32, bf16, int8"):
        danna_sep.load("xumx", precision="half")
    with pytest.raises(ConfigError, match="int8 needs a CPU with VNNI, and a PyTorch that uses it; take auto"):
        resolve_precision("int8", "cuda")
    monkeypatch.setattr(precision, "has_fast_int8", lambda: False)
    with pytest.raises(ConfigError, match="int8 needs a CPU with VNNI, and a PyTorch that uses it; take auto"):
        danna_sep.load("unet", device="cpu", precision="int8")
    separator = danna_sep.load("xumx")
    with pytest.raises(ConfigError, match="precision is settled when a separator is loaded"):
        danna_sep.separate(np.zeros((2, 100), np.float32), 44100, separator, precision="f32")


@on_such_processors
def test_whole_numbers_are_where_they_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the U-Nets that ship, the rest in bfloat16 or single precision as is fast; and nowhere in other networks."""
    for fast, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(precision, "has_fast_bf16", lambda fast=fast: fast)
        for name in ("unet", "wide-unet"):
            layers = layers_of_preset(name, "int8")
            assert (layers.counts, layers.dtype) == (True, dtype)
    assert not any(layers_of_preset("unet", each).counts for each in ("f32", "bf16"))


def layers_of_preset(name: str, arithmetic: str) -> UNetLayers:
    """Those of its one network, as it separates on a CPU."""
    separator = danna_sep.load(name, device="cpu", precision=arithmetic)
    assert isinstance(separator, danna_sep.Blend)
    part = separator.separators[name]
    assert isinstance(part, MaskSeparator)
    assert isinstance(part.model, FramedUNet)
    return part.model.layers
