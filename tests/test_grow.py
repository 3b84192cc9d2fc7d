"""A U-Net made larger: it must go on where the smaller one stood, and be able to learn with all that it has."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn

from danna_sep import weights
from danna_sep.models import XUMX, UNet, XUMXConfig
from danna_sep.models.unet import UNetConfig

BUNDLE = Path(__file__).parent.parent / "bundle"
pytestmark = pytest.mark.skipif(not BUNDLE.exists(), reason="the package without its sources")

MAGNITUDE = torch.rand(2, 2, 140, 30, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def bundle_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BUNDLE))


def unet() -> UNet:
    """With norms that are no longer as new."""
    torch.manual_seed(3)
    model = UNet(UNetConfig(n_bins=131, growth=3, n_layers=(1, 2, 1), bottleneck_width=16, dropout=0.0))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for entry in (module.weight, module.bias, module.running_mean, module.running_var):
                    entry.add_(0.5 * torch.rand_like(entry))
    return model


@pytest.mark.parametrize("training", [False, True])
def test_it_gives_the_same_masks(training: bool) -> None:
    """Or training begins from something else than what it goes on from."""
    from grow import grown

    small = unet().double()
    large = grown(small, 5).double().train(training)
    masks = small.train(training)(MAGNITUDE.double())
    assert masks.std() > 1e-3
    assert torch.allclose(large(MAGNITUDE.double()), masks, rtol=0, atol=1e-12)


def test_all_of_it_learns() -> None:
    """Or what was added is dead weight."""
    from grow import grown

    large = grown(unet(), 5).train()
    optimiser = torch.optim.SGD(large.parameters(), 10.0)
    for _ in range(8):  # a layer a step, from the output inwards
        optimiser.zero_grad()
        (large(MAGNITUDE) - torch.linspace(0, 1, 4)[:, None, None, None]).square().mean().backward()
        optimiser.step()
    for name, parameter in large.named_parameters():
        # In the innermost stages few frames are left, and ReLUs silence some features of all.
        assert parameter.grad is not None
        assert parameter.grad.count_nonzero() > 0.5 * parameter.numel(), name


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, BUNDLE / "grow.py", *arguments]
    return subprocess.run(program, capture_output=True, text=True, check=False)


def test_the_program_keeps_whom_to_name_and_nothing_that_was_measured(tmp_path: Path) -> None:
    small = unet()
    notes = {"licence": "MIT", "attribution": "a band", "sdr": "9 dB", "steps": "7", "wiener_iterations": "0"}
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    weights.write(old, model="unet", config=asdict(small.config), entries=small.state_dict(), metadata=notes)
    done = run(old, "--growth", "5", "--to", new)
    assert done.returncode == 0, done.stderr
    file = weights.read(new)
    assert file.config["growth"] == 5
    assert file.metadata.items() >= {"licence": "MIT", "attribution": "a band", "wiener_iterations": "0"}.items()
    assert not {"sdr", "steps"} & file.metadata.keys()
    large = UNet(UNetConfig(n_bins=131, growth=5, n_layers=(1, 2, 1), bottleneck_width=16, dropout=0.0))
    large.load_state_dict(file.entries)
    assert torch.allclose(large.eval()(MAGNITUDE), small.eval()(MAGNITUDE), rtol=0, atol=1e-2)


def test_what_cannot_grow_is_refused_by_name(tmp_path: Path) -> None:
    small, other = unet(), XUMX(XUMXConfig(hidden=8))
    old, xumx = tmp_path / "old.safetensors", tmp_path / "xumx.safetensors"
    weights.write(old, model="unet", config=asdict(small.config), entries=small.state_dict(), metadata={})
    weights.write(xumx, model="xumx", config=asdict(other.config), entries=other.state_dict(), metadata={})
    for path, growth, reason in ((old, "3", "larger"), (xumx, "9", "U-Net"), (tmp_path / "none", "9", "none")):
        done = run(path, "--growth", growth, "--to", tmp_path / "new.safetensors")
        assert done.returncode != 0
        assert str(path) in done.stderr
        assert reason in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "new.safetensors").exists()
