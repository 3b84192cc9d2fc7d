"""Segments together or one by one give the same, also when a device has less memory than was hoped for."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from danna_sep.blending import Blend
from danna_sep.cascade import Cascade
from danna_sep.cli.interrupt import Interrupt, Interruptible
from danna_sep.errors import Cancelled
from danna_sep.models import XUMX, Demucs, DemucsConfig, UNet, UNetConfig, XUMXConfig
from danna_sep.separators import MaskSeparator, Separator, WaveformSeparator, mask_separator
from danna_sep.signal.overlap_add import SegmentGrid
from danna_sep.streaming import DEFAULT_SEGMENT_S, default_segment_s, stream
from danna_sep.types import SAMPLE_RATE, SOURCES

GRID = SegmentGrid(8192, 2048)


class Limited:
    """Hears as many segments as its memory holds, and keeps count; shares a mixture out in fixed parts."""

    sources, sample_rate = SOURCES, SAMPLE_RATE

    def __init__(self, most: int) -> None:
        self.most = most
        self.heard: list[int] = []

    def __call__(self, mixture: Tensor) -> Tensor:
        n_segments = mixture.shape[0] if mixture.dim() == 4 else 1
        if n_segments > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        self.heard.append(n_segments)
        return torch.stack([mixture * share for share in (0.1, 0.2, 0.3, 0.4)], -3)


def streamed(separator: Separator, mixture: Tensor, batch: int | None) -> Tensor:
    return torch.cat(list(stream(iter(mixture.split(3000, -1)), separator, GRID, batch=batch)), -1)


@pytest.mark.parametrize("n_samples", [1, 8192, 8193, 14336, 60000, 61441])
@pytest.mark.parametrize("batch", [2, 3, 8])
@pytest.mark.parametrize("most", [1, 2, 100])
def test_batches_change_nothing(n_samples: int, batch: int, most: int) -> None:
    mixture = torch.randn(1, 2, n_samples)
    separator = Limited(most)
    together = streamed(separator, mixture, batch)
    assert torch.equal(together, streamed(Limited(1), mixture, None))
    assert max(separator.heard) <= most
    if most >= batch < GRID.n_segments(n_samples):
        assert separator.heard[0] == batch
    assert sum(separator.heard) == GRID.n_segments(n_samples)


def test_memory_that_is_too_small_is_tried_once() -> None:
    """The smaller number stays: no batch after the first runs out of memory again."""
    separator = Limited(2)
    streamed(separator, torch.randn(1, 2, 100000), 8)
    assert separator.heard[0] == 2
    assert set(separator.heard) <= {1, 2}


def test_no_memory_for_one_segment_is_said() -> None:
    with pytest.raises(torch.cuda.OutOfMemoryError):
        streamed(Limited(0), torch.randn(1, 2, 20000), 4)


@pytest.mark.parametrize(
    "separator",
    [
        MaskSeparator(XUMX(XUMXConfig(hidden=8, n_lstm_layers=1)).eval()),
        WaveformSeparator(Demucs(DemucsConfig(width=4, n_layers=4)).eval()),
    ],
    ids=["mask", "waveform"],
)
def test_networks_hear_segments_apart(separator: Separator) -> None:
    mixture = torch.randn(1, 2, 40000, generator=torch.Generator().manual_seed(0))
    one, three = (streamed(separator, mixture, batch) for batch in (1, 3))
    assert (one - three).abs().max() < 1e-5 * one.abs().max()


def test_cancelling_stops_before_the_next_batch() -> None:
    separator = Limited(100)
    stems = stream([torch.randn(1, 2, 200000)], separator, GRID, batch=4, cancelled=lambda: bool(separator.heard))
    with pytest.raises(Cancelled):
        list(stems)
    assert separator.heard == [4]


HEARD_ON = UNetConfig(n_bins=128, growth=2, n_layers=(1, 1, 1), bottleneck_width=4, n_heads=1, head_width=4)


def unet_that_has_seen_something(n_fft: int = 4096) -> UNet:
    torch.manual_seed(0)
    model = UNet(replace(HEARD_ON, n_fft=n_fft, hop_length=n_fft // 4, n_edge_bins=0 if n_fft == 4096 else 20))
    for _ in range(3):
        model(torch.rand(2, 2, 2049, 64))
    return model.eval()


@pytest.mark.parametrize("hop", [1024, 1536])
@pytest.mark.parametrize("n_seconds", [0.0001, 0.3, 0.5, 3, 7.9])
@pytest.mark.parametrize("axes", [(), (2,)])
def test_the_unet_hears_segments_as_one_track(hop: int, n_seconds: float, axes: tuple[int, ...]) -> None:
    """With no Wiener filter, whose statistics are of a segment, segments change nothing.

    Where their context is as long as the windows that reach beyond their borders.
    """
    separator = mask_separator(unet_that_has_seen_something(4 * hop), n_iterations=0)
    assert (separator.n_fft, separator.hop_length) == (4 * hop, hop)
    generator = torch.Generator().manual_seed(1)
    mixture = torch.randn(*axes, 2, max(1, round(n_seconds * SAMPLE_RATE)), generator=generator)
    with torch.no_grad():
        whole = separator(mixture)
    for n_frames, overlap in ((48, 24), (75, 32), (61, 25)):
        grid = SegmentGrid(n_frames * hop, overlap * hop)
        for batch in (1, 3):
            stems = torch.cat(list(stream(iter(mixture.split(30000, -1)), separator, grid, batch=batch)), -1)
            assert (stems - whole).abs().max() < 1e-5 * whole.abs().max()
    # Where segments share less than a window, their borders are heard: the network takes them apart.
    apart = torch.cat(list(stream(iter(mixture.split(30000, -1)), separator, SegmentGrid(24 * hop, 3 * hop))), -1)
    assert ((apart - whole).abs().max() > 1e-3 * whole.abs().max()) == (n_seconds > 0.6)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_blend_waits_for_what_hears_ahead(batch: int) -> None:
    """Stems of one segment are blended with those of the same segment, whatever comes when."""
    unet = MaskSeparator(unet_that_has_seen_something(), n_iterations=0)
    others = {"none": Limited(0), "shares": Limited(2)}
    rows = {"unet": (0.5, 1, 0, 0.3), "none": (0, 0, 0, 0), "shares": (0.5, 0, 1, 0.7)}
    both = Blend({"unet": unet, **others}, rows)
    mixture = torch.randn(1, 2, 7 * SAMPLE_RATE, generator=torch.Generator().manual_seed(1))
    grid = SegmentGrid(64 * 1024, 24 * 1024)
    stems = torch.cat(list(stream(iter(mixture.split(30000, -1)), both, grid, batch=batch)), -1)
    with torch.no_grad():
        weights = torch.tensor(list(rows.values()))[:, :, None, None]
        expected = weights[0] * unet(mixture) + weights[2] * Limited(1)(mixture)
    assert (stems - expected).abs().max() < 1e-5 * expected.abs().max()
    assert max(others["shares"].heard) == min(batch, 1)


@pytest.mark.parametrize("n_iterations", [(0, 0), (0, 1), (1, 0), (1, 2)])
def test_a_blends_mask_models_share_spectra(n_iterations: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each segment one is computed to hear, one to mask, and each stem's once; the stems are those of a sum."""
    torch.manual_seed(0)
    xumx = XUMX(XUMXConfig(hidden=8, n_lstm_layers=1)).eval().requires_grad_(False)
    networks = (xumx, unet_that_has_seen_something().requires_grad_(False))
    separators = {
        name: MaskSeparator(network, n)
        for name, network, n in zip(("xumx", "unet"), networks, n_iterations, strict=True)
    }
    rows = {"xumx": (0.5, 1.0, 0.0, 0.3), "unet": (0.5, 0.0, 0.0, 0.7), "shares": (0.25, 0.0, 1.0, 0.0)}
    mixture = torch.randn(2, 2, 4 * SAMPLE_RATE, generator=torch.Generator().manual_seed(1))
    grid = SegmentGrid(64 * 1024, 24 * 1024)

    def of(separator: Separator) -> Tensor:
        return torch.cat(list(stream(iter(mixture.split(30000, -1)), separator, grid)), -1)

    each = {**{name: of(separator) for name, separator in separators.items()}, "shares": of(Limited(1))}
    expected = sum(torch.tensor(row)[:, None, None] * each[name] for name, row in rows.items())
    transforms = {"stft": 0, "istft": 0}
    for module, kind in (("separators", "stft"), ("signal.stem_sum", "istft")):
        original = getattr(importlib.import_module(f"danna_sep.{module}"), kind)

        def counted(*arguments: object, original: Any = original, kind: str = kind, **options: object) -> Any:
            transforms[kind] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(f"danna_sep.{module}.{kind}", counted)
    stems = of(Blend({**separators, "shares": Limited(1)}, rows))
    assert (stems - expected).abs().max() < 1e-5 * expected.abs().max()
    n_segments = grid.n_segments(mixture.shape[-1])
    assert transforms == {"stft": 2 * n_segments, "istft": 3 * 2 * n_segments}, "three stems, two channels"


def test_segments_are_short_where_long_ones_change_nothing() -> None:
    """The shipped weights need less memory for them; filter and Demucs would hear less."""
    unet = MaskSeparator(unet_that_has_seen_something(), n_iterations=0)
    filtered, blocks = MaskSeparator(unet.model), MaskSeparator(unet.model, n_iterations=0, block_frames=64)
    demucs = WaveformSeparator(Demucs(DemucsConfig(width=4, n_layers=4)).eval())
    long = (filtered, blocks, demucs, Limited(1), Blend({"a": unet, "b": demucs}, {"a": (1,) * 4, "b": (1, 0, 0, 0)}))
    assert {default_segment_s(each) for each in long} == {DEFAULT_SEGMENT_S}
    silent = Blend({"a": unet, "b": demucs}, {"a": (1,) * 4, "b": (0,) * 4})
    interruptible = Interruptible(silent, Interrupt())
    assert {default_segment_s(each) for each in (unet, silent, interruptible)} == {DEFAULT_SEGMENT_S * 9 / 32}
    assert default_segment_s(unet, overlap=0) == DEFAULT_SEGMENT_S, "then segments are heard apart"
    assert default_segment_s(unet, overlap=0.06) == DEFAULT_SEGMENT_S, "then what a border reflects would be heard"


class Windowed(torch.nn.Module):
    """A waveform model that can hear in windows, and keeps count of how much at once."""

    def __init__(self, gains_by_windows: bool = True) -> None:
        super().__init__()
        self.heard: list[int] = []
        self.gains_by_windows = gains_by_windows

    def forward(self, mixture: Tensor, places: list[int]) -> Tensor:
        self.heard.append(mixture.shape[-1])
        return torch.stack([mixture * share for share in (0.1, 0.2, 0.3, 0.4)], 1)[:, places]

    def in_windows(self, mixture: Tensor, n_in_window: int, places: list[int]) -> Tensor:
        assert n_in_window == LONG_GRID.length // 2
        return self(mixture, places)


LONG_GRID = SegmentGrid(64 * 1024, 24 * 1024)


@pytest.mark.parametrize("n_samples", [30000, 65536, 65537, 150000, 7 * SAMPLE_RATE, 450001])
def test_while_a_blend_waits_segments_become_long_ones(n_samples: int) -> None:
    """Three in one, which shares as much with the next as a segment does; the stems are the same."""
    unet = MaskSeparator(unet_that_has_seen_something(), n_iterations=0)
    model = Windowed()
    mixture = torch.randn(1, 2, n_samples, generator=torch.Generator().manual_seed(1))

    def blended(other: Separator) -> Tensor:
        both = Blend({"unet": unet, "other": other}, {"unet": (0.5,) * 4, "other": (0.5,) * 4})
        return torch.cat(list(stream(iter(mixture.split(30000, -1)), both, LONG_GRID)), -1)

    torch.testing.assert_close(blended(WaveformSeparator(model)), blended(Limited(1)), rtol=1e-5, atol=1e-6)
    n_long = 3 * LONG_GRID.hop + LONG_GRID.overlap
    assert set(model.heard[:-1]) <= {n_long}
    assert 0 < model.heard[-1] <= n_long
    assert sum(model.heard) - LONG_GRID.overlap * (len(model.heard) - 1) == n_samples
    short = Windowed(gains_by_windows=False)
    torch.testing.assert_close(blended(WaveformSeparator(short)), blended(Limited(1)), rtol=1e-5, atol=1e-6)
    assert max(short.heard) <= LONG_GRID.length, "of more it would only hold more"
    alone = Windowed()
    streamed(WaveformSeparator(alone), mixture, None)
    assert max(alone.heard) <= GRID.length, "alone it gives each segment's stems as soon as it was heard"


@pytest.mark.parametrize("hears_on", ["first", "rest"])
def test_a_cascade_hands_on_what_is_left(hears_on: str) -> None:
    """Of each segment when the first has given its stems, whichever of the two hears ahead."""
    unet = MaskSeparator(unet_that_has_seen_something(), n_iterations=0)
    both = {"first": (unet, Limited(2)), "rest": (Limited(2), unet)}[hears_on]
    cascade = Cascade(*both, taken=("vocals",))
    mixture = torch.randn(1, 2, 7 * SAMPLE_RATE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = cascade(mixture)
    for batch in (1, 3):
        grid = SegmentGrid(64 * 1024, 24 * 1024)
        stems = torch.cat(list(stream(iter(mixture.split(30000, -1)), cascade, grid, batch=batch)), -1)
        assert (stems - whole).abs().max() < 1e-5 * whole.abs().max()
