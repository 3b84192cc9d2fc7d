"""A U-Net among wider features, as it is trained on a GPU: it must learn exactly what the U-Net would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from danna_sep.models import UNet
from danna_sep.models.unet import UNetConfig

BUNDLE = Path(__file__).parent.parent / "bundle"
pytestmark = pytest.mark.skipif(not BUNDLE.exists(), reason="the package without its sources")

N_STEPS = 3


@pytest.fixture(autouse=True)
def bundle_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BUNDLE))


def unet(growth: int) -> UNet:
    """Without chance, and with norms that are no longer as new."""
    torch.manual_seed(growth)
    model = UNet(UNetConfig(n_bins=131, growth=growth, n_layers=(1, 2, 1), bottleneck_width=16, dropout=0.0))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for entry in (module.weight, module.bias, module.running_mean, module.running_var):
                    entry.add_(0.5 * torch.rand_like(entry))
    return model


def trained(model: nn.Module, magnitude: Tensor) -> None:
    optimiser = torch.optim.Adam(model.train().parameters(), 1e-3)
    target = torch.linspace(0, 1, 4)[:, None, None, None]
    for _ in range(N_STEPS):
        (model(magnitude) - target).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()


@pytest.mark.parametrize("growth", [3, 8])
def test_an_aligned_unet_gives_and_learns_the_same(growth: int) -> None:
    """Or what is trained on a GPU is another network than what ships."""
    from aligned import AlignedUNet

    magnitude = torch.rand(2, 2, 140, 30, generator=torch.Generator().manual_seed(1))
    plain = unet(growth).double()
    aligned = AlignedUNet(plain)
    kept = aligned.entries()
    assert kept.keys() == plain.state_dict().keys()
    assert all(torch.equal(kept[name], entry) for name, entry in plain.state_dict().items())
    masks = plain.eval()(magnitude.double())
    assert masks.std() > 1e-3
    assert torch.allclose(aligned.eval()(magnitude.double()), masks, rtol=0, atol=1e-12)
    trained(plain, magnitude.double())
    trained(aligned, magnitude.double())
    for name, entry in plain.state_dict().items():
        assert torch.allclose(aligned.entries()[name], entry, rtol=0, atol=1e-8), name


def test_what_is_added_stays_silent_and_all_widths_are_multiples_of_eight() -> None:
    from aligned import AlignedUNet

    aligned = AlignedUNet(unet(8))
    trained(aligned, torch.rand(1, 2, 140, 30, generator=torch.Generator().manual_seed(2)))
    for name, module in aligned.unet.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert module.in_channels % 8 == 0, name
            assert module.out_channels % 8 == 0, name
    own, wide = aligned.entries(), aligned.unet.state_dict()
    for name, entry in own.items():
        if entry.shape == wide[name].shape:
            continue
        assert entry.count_nonzero() > 0, name
        # What norms divide by, and multiply nothing with, is one as they are made; the rest is zero.
        if name.endswith(("norm.weight", "running_var")):
            continue
        assert entry.count_nonzero() == wide[name].count_nonzero(), name
