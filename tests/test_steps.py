"""A U-Net that counts its features in steps is the same network, and one in whole steps is near it."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import soundfile
import torch
from torch import Tensor, nn

from danna_sep import weights
from danna_sep.models import UNet, UNetConfig, build, unet_layers
from danna_sep.models.precision import has_fast_int8, lower
from danna_sep.models.steps import can_count, count_in_steps
from danna_sep.models.unet_framed import FramedUNet
from danna_sep.models.unet_layers import layers_of
from danna_sep.models.unet_stream import UNetStream
from danna_sep.signal.stft import magnitude_of, stft

EXCERPT = Path(__file__).parent.parent / "examples" / "caesium-excerpt" / "mixture.flac"
CONFIG = UNetConfig(
    n_bins=93, growth=4, n_layers=(2, 1, 2, 1), bottleneck_width=8, n_heads=2, head_width=4, input_power=0.3
)
CONFIGS = {
    "four stages": CONFIG,
    "wide, long window, edge": replace(CONFIG, n_fft=6144, hop_length=1536, n_edge_bins=9, growth=9),
    "two stages": replace(CONFIG, n_layers=(1, 2)),
    "one stage": replace(CONFIG, n_layers=(1,)),
}
N_BINS = 100

on_such_processors = pytest.mark.skipif(not has_fast_int8(), reason="this processor has no sums of eight bits")


def network(config: UNetConfig = CONFIG) -> UNet:
    """Batch norms have seen something, and one of them has channels that are never more than nothing."""
    torch.manual_seed(3)
    model = UNet(config)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.normal_(norm.bias, std=0.3)
        nn.init.uniform_(norm.weight, 0.2, 3)
    for _ in range(5):
        model(100 * torch.rand(2, 2, N_BINS, 64) ** 4)
    norm = cast("nn.BatchNorm2d", model.widen_norm)
    nn.init.zeros_(norm.weight[:2])
    nn.init.constant_(norm.bias[:2], -1)
    return model.eval().requires_grad_(False)


def counted(model: UNet) -> UNet:
    model = copy.deepcopy(model)
    count_in_steps(model)
    return model


def distance_db(reference: Tensor, other: Tensor) -> float:
    return float(10 * torch.log10(reference.square().mean() / (reference - other).square().mean()))


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_counting_changes_nothing(name: str) -> None:
    """Steps are powers of two: not a bit of the masks is another, in bfloat16 either."""
    model = network(CONFIGS[name])
    magnitude = 300 * torch.rand(1, 2, N_BINS, 70) ** 6
    for low in (False, True):
        if low:
            lower(model)
        assert torch.equal(counted(model)(magnitude), model(magnitude))


@torch.no_grad()
def test_features_use_the_steps_that_there_are() -> None:
    """Of the weights that ship, on music: hardly any is beyond 255, and none so small that all would be nothing."""
    file = weights.read(weights.find("provisional-wide-unet"))
    model = cast("UNet", build("unet", file.config)).eval()
    model.load_state_dict(file.entries)
    count_in_steps(model)
    seen: list[Tensor] = []
    hook = model.widen_norm.register_forward_hook(lambda _, __, given: seen.append(given.relu()))
    mixture = torch.from_numpy(soundfile.read(EXCERPT, frames=220500, dtype="float32")[0].T)
    with torch.enable_grad():  # where norms are not parts of the weights
        model(magnitude_of(stft(mixture, model.config.n_fft, model.config.hop_length))[None])
    hook.remove()
    (features,) = (each.detach() for each in seen)
    assert float((features > 255.5).float().mean()) < 1e-4
    assert 30 < float(features.amax((0, 2, 3)).median()) < 255


@on_such_processors
@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_in_whole_steps_masks_stay_near(name: str, low: bool) -> None:
    model = network(CONFIGS[name])
    magnitude = 100 * torch.rand(2, 2, N_BINS, 150) ** 4
    exact = model(magnitude)
    of_steps = counted(model)
    if low:
        lower(of_steps)
    laid_out = FramedUNet(of_steps)
    assert laid_out.layers.counts
    assert 30 < distance_db(exact, laid_out(magnitude)) < 70


@torch.no_grad()
def test_where_they_are_not_to_be_had_it_is_the_same_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unet_layers, "has_fast_int8", lambda: False)
    model = network()
    magnitude = 100 * torch.rand(1, 2, N_BINS, 70) ** 4
    laid_out = FramedUNet(counted(model))
    assert not laid_out.layers.counts
    assert torch.equal(laid_out(magnitude), FramedUNet(model)(magnitude))


@on_such_processors
@pytest.mark.parametrize("n_frames", [1, 2, 7, 16, 33, 257])
@pytest.mark.parametrize(("coarse", "least_db"), [(False, 60), (True, 30)])
@torch.no_grad()
def test_parts_give_what_the_whole_track_gives(coarse: bool, least_db: float, n_frames: int) -> None:
    """Sums of single precision, whose order differs, may be rounded to another step; so may what waits coarsely."""
    model = counted(network())
    model.waits_coarsely = coarse
    layers = layers_of(model)
    magnitude = 100 * torch.rand(1, 2, N_BINS, n_frames) ** 4
    masks = []
    drawn = torch.Generator().manual_seed(n_frames)
    cuts = [0, *torch.randint(0, n_frames + 1, (3,), generator=drawn).sort().values.tolist(), n_frames]
    for n_together, lengths in ((256, [n_frames]), (16, [b - a for a, b in itertools.pairwise(cuts)])):
        stream = UNetStream(layers, n_together)
        given = []
        for i, part in enumerate(magnitude.split(lengths, -1)):
            stream.hear(part, i == len(lengths) - 1)
            given += [stream.masks(settled) for settled in iter(stream.settled, None)]
        masks.append(torch.cat(given, -1))
    assert masks[0].shape == (1, 4, 2, N_BINS, n_frames)
    assert distance_db(masks[0], masks[1]) > least_db


def test_what_cannot_count() -> None:
    """Linear magnitudes need more than eight bits, LSTMs have no norms, and twice would be wrong."""
    for config in (replace(CONFIG, input_power=1.0), replace(CONFIG, bottleneck="biaxial")):
        model = network(config)
        assert not can_count(model)
        with pytest.raises(ValueError, match="hear magnitudes nearly as they are"):
            count_in_steps(model)
    model = network()
    count_in_steps(model)
    with pytest.raises(ValueError, match="does so once"):
        count_in_steps(model)
