"""The U-Net over a track in parts gives what it gives for the whole track."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections import defaultdict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from danna_sep.models import UNet, UNetConfig, bordered, convolution, frame_queues
from danna_sep.models.precision import lower
from danna_sep.models.unet_framed import FramedUNet, framed
from danna_sep.models.unet_layers import can_stream, layers_of
from danna_sep.models.unet_stream import UNetStream
from streamed import masks_of_parts, settled

CONFIGS = {
    "three stages": UNetConfig(n_bins=61, growth=3, n_layers=(2, 1, 2), bottleneck_width=8, n_heads=2, head_width=4),
    "padding attended to": UNetConfig(
        n_bins=40, growth=2, n_layers=(1, 2), bottleneck_width=8, n_heads=1, head_width=3, mask_padding=False
    ),
    "power, all bins": UNetConfig(
        n_bins=64, growth=2, n_layers=(3, 1, 1), bottleneck_width=8, n_heads=2, head_width=4, input_power=0.3
    ),
    "long window, edge": UNetConfig(
        n_fft=6144,
        hop_length=1536,
        n_bins=50,
        n_edge_bins=6,
        growth=2,
        n_layers=(1, 2),
        bottleneck_width=8,
        n_heads=1,
        head_width=3,
    ),
}
N_BINS = 64


def network(config: UNetConfig) -> UNet:
    """In double precision, with batch norms that have seen something."""
    torch.manual_seed(3)
    model = UNet(config).double()
    for _ in range(3):
        model(torch.rand(2, 2, N_BINS, 64, dtype=torch.float64))
    return model.eval()


@pytest.mark.parametrize("widest", [False, True])
def test_in_bfloat16_features_may_stand_between_zeros(monkeypatch: pytest.MonkeyPatch, widest: bool) -> None:
    """As a CPU's matrix instructions take them; nothing of the memory around is heard, which may hold anything."""
    monkeypatch.setattr(bordered, "has_tiles", lambda: widest)
    rooms: list[Any] = []
    monkeypatch.setattr(frame_queues, "bordered", lambda *room: rooms.append(room) or bordered.bordered(*room))
    config = UNetConfig(n_bins=61, growth=12, n_layers=(3, 1, 2), bottleneck_width=8, n_heads=2, head_width=4)
    model = network(config)
    magnitude = torch.rand(1, 2, N_BINS, 90, dtype=torch.float64)
    with torch.no_grad():
        expected = model(magnitude)
        lower(model.float())
        torch.use_deterministic_algorithms(True)  # fills new memory with what is not a number
        try:
            found = masks_of_parts(UNetStream(layers_of(model), 16), magnitude.float(), [40, 1, 30, 19])
        finally:
            torch.use_deterministic_algorithms(False)
    assert bool(rooms) == widest
    assert float((found - expected).abs().mean()) < 0.003
    assert float((found - expected).abs().max()) < 0.06


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("n_frames", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 100, 257])
@torch.no_grad()
def test_parts_give_what_the_whole_track_gives(name: str, n_frames: int) -> None:
    """Of any length, down to single frames and nothing."""
    model = network(CONFIGS[name])
    magnitude = torch.rand(2, 2, N_BINS, n_frames, dtype=torch.float64)
    whole = model(magnitude)
    assert whole.shape[-1] == n_frames
    drawn = torch.Generator().manual_seed(n_frames)
    cuts = torch.randint(0, n_frames + 1, (3,), generator=drawn).sort().values.tolist()
    for n, n_parts, lengths in (
        (256, 1, [n_frames]),
        (8, 2, [n_frames]),
        (5, 1, [1] * n_frames),
        (5, 3, [1] * n_frames),
        (30, 4, [b - a for a, b in itertools.pairwise([0, *cuts, n_frames])]),
        (16, 16, [n_frames, 0]),
        (2, 4, [n_frames]),
    ):
        stream = UNetStream(layers_of(model), n, n_parts)
        torch.testing.assert_close(masks_of_parts(stream, magnitude, lengths), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_parts", [1, 4])
@torch.no_grad()
def test_few_frames_at_once_go_through_the_outermost_stages(n_parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For there is most of each: what many take decides how much memory a song takes."""
    stream = UNetStream(layers_of(network(CONFIGS["three stages"])), 64, n_parts)
    heard: defaultdict[int, list[int]] = defaultdict(list)
    convolve = F.conv2d

    def note(features: Tensor, *arguments: Any, **named: Any) -> Tensor:
        heard[features.shape[3]].append(features.shape[2])
        return convolve(features, *arguments, **named)

    monkeypatch.setattr(convolution.F, "conv2d", note)
    masks_of_parts(stream, torch.rand(1, 2, N_BINS, 640, dtype=torch.float64), [640])
    outermost, inner = heard[max(heard)], heard[max(n_bins for n_bins in heard if n_bins <= max(heard) // 2)]
    most = 64 // n_parts
    assert most <= max(outermost) < 2.5 * most
    assert max(inner) >= 32


@torch.no_grad()
def test_masks_come_once_later_frames_cannot_change_them() -> None:
    """And no later: what has not come yet depends on what has not been heard."""
    model = network(CONFIGS["three stages"])
    magnitude = torch.rand(1, 2, N_BINS, 400, dtype=torch.float64)
    stream = UNetStream(layers_of(model), 8)
    stream.hear(magnitude[..., :300], False)
    n_settled = sum(masks.shape[-1] for masks in settled(stream))
    assert 50 < n_settled < 300
    changed = magnitude.clone()
    changed[..., 300:] += 1
    differs = (model(magnitude) != model(changed)).flatten(0, 3).any(0).nonzero().flatten()
    first = int(differs[0])
    assert n_settled <= first < n_settled + 16 + stream.n_frames  # fewer than are heard together wait to be heard


@torch.no_grad()
def test_where_there_is_no_memory_fewer_frames_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """And give the same masks: nothing of the failed attempt is left."""
    model = network(CONFIGS["three stages"])
    magnitude = torch.rand(1, 2, N_BINS, 300, dtype=torch.float64)
    stream = UNetStream(layers_of(model), 128)
    convolve = F.conv2d

    def fail(features: Tensor, *arguments: Any, **named: Any) -> Tensor:
        if features.shape[2] > 60:
            raise torch.cuda.OutOfMemoryError("none left")
        return convolve(features, *arguments, **named)

    monkeypatch.setattr(convolution.F, "conv2d", fail)
    masks = masks_of_parts(stream, magnitude, [200, 100])
    monkeypatch.undo()
    assert stream.n_frames == 32
    torch.testing.assert_close(masks, model(magnitude), rtol=0, atol=1e-12)


@torch.no_grad()
def test_what_is_kept_does_not_grow() -> None:
    model = network(CONFIGS["three stages"])
    stream = UNetStream(layers_of(model), 16)

    def kept() -> int:
        pieces = [piece for queue in stream._kept.values() for piece in queue]
        return sum(piece.untyped_storage().nbytes() for piece in pieces)

    sizes = []
    for _ in range(30):
        stream.hear(torch.rand(1, 2, N_BINS, 48, dtype=torch.float64), False)
        settled(stream)
        sizes.append(kept())
    assert sizes[-1] == max(sizes[10:])
    assert max(sizes[10:]) <= max(sizes[:10])


def test_networks_that_cannot_stream() -> None:
    biaxial = UNet(UNetConfig(growth=2, n_layers=(1, 1), bottleneck="biaxial", bottleneck_width=8)).eval()
    assert not can_stream(biaxial)
    assert not can_stream(torch.nn.Linear(1, 1))
    training = UNet(CONFIGS["three stages"]).train()
    for model in (biaxial, training):
        with pytest.raises(ValueError, match="in parts"):
            layers_of(model)


def test_masks_have_the_precision_of_magnitudes() -> None:
    """Of a network in bfloat16, too: the last nonlinearity is taken in single precision."""
    stream = UNetStream(layers_of(network(next(iter(CONFIGS.values())))))
    with torch.no_grad():
        stream.hear(torch.rand(1, 2, 70, 64), True)
        given = stream.settled()
        assert given is not None
        low = (8 * torch.randn_like(given)).bfloat16()
        masks = stream.masks(low)
    assert masks.dtype == torch.float32
    expected = torch.sigmoid(low.float())
    torch.testing.assert_close(masks.flatten(1, 2)[:, :, : low.shape[-2]], expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_laid_out_once_it_serves_all_tracks() -> None:
    """Of any length and number of items, one after the other or taking turns; the model itself is let go."""
    model = network(next(iter(CONFIGS.values()))).float()
    tracks = [
        torch.rand(batch, 2, N_BINS, n_frames) for batch, n_frames in ((1, 90), (2, 33), (1, 90), (1, 1), (1, 41))
    ]
    expected = [model(track) for track in tracks]
    laid_out = framed(model)
    assert isinstance(laid_out, FramedUNet)
    parameters = [weakref.ref(parameter) for parameter in model.parameters()]
    del model
    gc.collect()
    assert not any(parameter() is not None for parameter in parameters)
    for track, masks in zip(tracks, expected, strict=True):
        torch.testing.assert_close(laid_out(track), masks, rtol=0, atol=1e-5)
    streams = [UNetStream(laid_out.layers, 16) for _ in range(2)]
    given: list[list[Tensor]] = [[], []]
    for start in range(0, 90, 15):
        for stream, track, masks_of in zip(streams, (tracks[0], tracks[2]), given, strict=True):
            stream.hear(track[..., start : start + 15], start == 75)
            masks_of += settled(stream)
    for masks_of, masks in zip(given, (expected[0], expected[2]), strict=True):
        torch.testing.assert_close(torch.cat(masks_of, -1), masks, rtol=0, atol=1e-5)


def test_what_cannot_be_laid_out_stays_as_it_is() -> None:
    """Not streamed, in training, or in a precision that oneDNN has not."""
    config = UNetConfig(growth=2, n_layers=(1, 1), bottleneck="biaxial", bottleneck_width=8)
    for model in (UNet(config).eval(), UNet(CONFIGS["three stages"]).train(), network(CONFIGS["three stages"])):
        assert framed(model) is model


def test_it_gives_no_gradients_and_needs_none_to_be_off() -> None:
    """As Demucs laid out: what is heard may well be something that gradients are wanted of elsewhere."""
    model = network(next(iter(CONFIGS.values()))).float()
    magnitude = torch.rand(1, 2, N_BINS, 30, requires_grad=True)
    masks = framed(model)(magnitude)
    assert not masks.requires_grad
    torch.testing.assert_close(masks, model(magnitude), rtol=0, atol=1e-5)


@torch.no_grad()
def test_coarsely_what_waits_is_small_and_masks_stay_near() -> None:
    """In a stream; a network that hears a track at once makes nothing wait."""
    model = network(next(iter(CONFIGS.values()))).float()
    magnitude = torch.rand(1, 2, N_BINS, 200)
    exact = model(magnitude)
    for coarse, dtype in ((False, torch.float32), (True, torch.float16)):
        model.waits_coarsely = coarse
        laid_out = framed(model)
        torch.testing.assert_close(laid_out(magnitude), exact, rtol=0, atol=1e-5)
        assert isinstance(laid_out, FramedUNet)
        stream = UNetStream(laid_out.layers, 16)
        stream.hear(magnitude, True)
        given = [logits.clone() for logits in iter(stream.settled, None)]
        assert {logits.dtype for logits in given} == {dtype}
        masks = torch.cat([stream.masks(logits) for logits in given], -1)
        assert masks.dtype == torch.float32
        error = float((masks - exact).square().mean() / exact.square().mean())
        assert error < (1e-4 if coarse else 1e-10)
