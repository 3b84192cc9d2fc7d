"""One set of laws for all separators."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from adapted import foreign_separators
from danna_sep.adapters.spleeter import SpleeterSeparator, SpleeterUNet
from danna_sep.blending import Blend
from danna_sep.cascade import Cascade
from danna_sep.errors import AudioError, Cancelled, ConfigError, UnsupportedChannels
from danna_sep.models import XUMX, Demucs, DemucsConfig, UNet, UNetConfig, XUMXConfig
from danna_sep.recurring import Recurring
from danna_sep.separators import MaskSeparator, Separator, WaveformSeparator, only
from danna_sep.signal.overlap_add import SegmentGrid
from danna_sep.streaming import default_segment_s, segment_grid, stream
from danna_sep.types import SOURCES


def small_separators() -> dict[str, Separator]:
    torch.manual_seed(0)
    xumx = XUMX(XUMXConfig(hidden=8, n_lstm_layers=1)).eval()
    unet = UNet(UNetConfig(growth=2, n_layers=(1, 1, 1), bottleneck_width=16, n_heads=2, head_width=4)).eval()
    demucs = Demucs(DemucsConfig(width=4, n_layers=4)).eval()
    separators: dict[str, Separator] = {
        "xumx": MaskSeparator(xumx.requires_grad_(False)),
        "unet": MaskSeparator(unet.requires_grad_(False)),
        "double": MaskSeparator(xumx, precision=torch.float64, block_frames=5),
        "demucs": WaveformSeparator(demucs.requires_grad_(False)),
        "demucs, 3 shifts": WaveformSeparator(demucs, n_shifts=3, max_shift=500),
    }
    rows = {"unet": (0.5, 1, 0, 0.3), "demucs": (0.5, 0, 1, 0.7)}
    separators["blend"] = Blend({name: separators[name] for name in rows}, rows)
    separators["only"] = only(separators["blend"], ["vocals", "drums"])
    separators["recurring"] = Recurring(separators["blend"])
    separators["recurring, only"] = only(separators["recurring"], ["vocals", "drums"])
    networks = tuple(SpleeterUNet((2, 2, 2, 2, 2, 2)).eval().requires_grad_(False) for _ in range(2))
    separators["spleeter"] = SpleeterSeparator(networks, n_bins=128)
    separators["spleeter, average"] = SpleeterSeparator(networks, n_bins=64, beyond="average")
    separators["cascade"] = Cascade(separators["spleeter"], separators["demucs"])
    rows = {"spleeter": (0, 0, 0, 0.6), "cascade": (1, 1, 0.5, 0.4), "unet": (0, 0, 0.5, 0)}
    separators["blend of unequals"] = Blend({name: separators[name] for name in rows}, rows)
    return {**separators, **foreign_separators()}


SEPARATORS = small_separators()
every = pytest.mark.parametrize("separator", SEPARATORS.values(), ids=SEPARATORS)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@every
@pytest.mark.parametrize("n_samples", [1, 2, 1023, 4096, 10001])
def test_stems_are_as_long_as_the_mixture(separator: Separator, n_samples: int) -> None:
    stems = separator(noise(2, n_samples))
    assert stems.shape == (len(separator.sources), 2, n_samples)
    assert stems.isfinite().all()


@every
def test_the_mixture_is_left_untouched(separator: Separator) -> None:
    mixture = 100 * noise(2, 5000)
    before = mixture.clone()
    separator(mixture)
    assert torch.equal(mixture, before)


@every
def test_items_of_a_batch_are_independent(separator: Separator) -> None:
    mixtures = noise(2, 3, 2, 6000) * torch.tensor([1, 100, 1e-3])[:, None, None]
    stems = separator(mixtures)
    assert stems.shape == (2, 3, len(separator.sources), 2, 6000)
    alone = separator(mixtures[1, 2])
    assert (alone - stems[1, 2]).abs().max() < 1e-4 * alone.abs().max()


@every
def test_silence_gives_silence(separator: Separator) -> None:
    assert not separator(torch.zeros(2, 9000)).any()


@every
def test_it_is_deterministic(separator: Separator) -> None:
    mixture = noise(2, 9000)
    assert torch.equal(separator(mixture), separator(mixture))


@every
def test_awkward_input_gives_finite_output(separator: Separator) -> None:
    time = torch.arange(9000)
    square = torch.where(time % 100 < 50, 1.0, -1.0)
    mono, antiphase = torch.stack((square, square)), torch.stack((square, -square))
    offset, loud = torch.ones(2, 9000), 1e4 * noise(2, 9000)
    for mixture in (mono, antiphase, offset, loud):
        assert separator(mixture).isfinite().all()


@every
def test_mixtures_in_double_precision_are_heard(separator: Separator) -> None:
    """As arrays of NumPy are; what their precision gains is up to the separator."""
    mixture = noise(2, 9000)
    single, double = separator(mixture), separator(mixture.double())
    assert double.dtype == torch.float64
    assert torch.allclose(single.double(), double, atol=1e-4 * float(single.abs().max()))


@every
def test_it_is_a_separator(separator: Separator) -> None:
    assert isinstance(separator, Separator)
    assert separator.sample_rate == 44100


def test_blend_computes_only_what_is_needed() -> None:
    calls: list[str] = []

    class Named:
        sources = SOURCES
        sample_rate = 44100

        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, mixture: Tensor) -> Tensor:
            calls.append(self.name)
            return torch.stack([mixture] * 4, -3)

    rows = {"a": (1, 0, 0, 0), "b": (0, 1, 1, 1), "c": (0, 0, 0, 0)}
    mixture = noise(2, 10)
    whole = Blend({name: Named(name) for name in rows}, rows)
    assert torch.equal(whole(mixture), torch.stack([mixture] * 4))
    assert calls == ["a", "b"]
    calls.clear()
    vocals = only(whole, ["vocals"])
    assert torch.equal(vocals(mixture), mixture[None])
    assert calls == ["b"]


def test_blend_says_so_when_weights_do_not_sum_to_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Blend({"a": SEPARATORS["demucs"]}, {"a": (1, 1.1, 1, 1)})
    assert [record.getMessage() for record in caplog.records] == ["blend: the weights for bass sum to 1.1, not to one"]


def test_weights_that_need_not_sum_to_one_go_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        blend = Blend({"a": SEPARATORS["demucs"]}, {"a": (1, 0.9, 1, 1)}, sums_to_one=False)
        blend.only(["bass"])
    assert not caplog.records


class Constant:
    """Each source is the mixture times a number of its own; remembers what it was asked."""

    sample_rate = 44100

    def __init__(self, **gains: float) -> None:
        self.sources = tuple(gains)
        self.gains = gains
        self.heard: list[Tensor] = []

    def __call__(self, mixture: Tensor) -> Tensor:
        self.heard.append(mixture.clone())
        return torch.stack([gain * mixture for gain in self.gains.values()], -3)


def test_separators_of_different_sources_are_blended() -> None:
    """One that lacks a source must add nothing there, and keep its own sources in their places."""
    vocals = Constant(vocals=0.5, accompaniment=9)
    four = Constant(drums=1, bass=2, other=3, vocals=4)
    blend = Blend({"two": vocals, "four": four}, {"two": (0, 0, 0, 0.5), "four": (1, 1, 1, 0.5)})
    mixture = noise(2, 10)
    expected = torch.stack([gain * mixture for gain in (1, 2, 3, 2.25)])
    assert torch.allclose(blend(mixture), expected)
    assert torch.allclose(only(blend, ["vocals", "drums"])(mixture), expected[[3, 0]])
    vocals.heard.clear()
    assert torch.allclose(only(blend, ["bass"])(mixture), expected[[1]])
    assert not vocals.heard


def test_a_weight_for_a_source_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="two has no bass"):
        Blend({"two": Constant(vocals=1)}, {"two": (0, 0.1, 0, 1)})


def test_a_cascade_hears_what_is_left() -> None:
    """The second separator must hear the mixture without the first's stems, and only when its own are wanted."""
    first, rest = Constant(vocals=0.25, accompaniment=0.1), Constant(drums=0.5, bass=0.25, other=0.125, vocals=7)
    cascade = Cascade(first, rest)
    assert cascade.sources == SOURCES
    mixture = noise(3, 2, 10)
    stems = cascade(mixture)
    assert torch.allclose(rest.heard[0], 0.75 * mixture)
    gains = torch.tensor([0.375, 0.1875, 0.09375, 0.25])
    assert torch.allclose(stems, gains[:, None, None] * mixture[:, None])
    rest.heard.clear()
    assert torch.allclose(only(cascade, ["vocals"])(mixture), 0.25 * mixture[:, None])
    assert not rest.heard
    narrow = only(cascade, ["vocals", "bass"])
    assert torch.allclose(narrow(mixture), gains[[3, 1], None, None] * mixture[:, None])


def test_a_cascade_refuses_what_does_not_fit() -> None:
    with pytest.raises(ConfigError, match="no such stem: vocals"):
        Cascade(Constant(drums=1), Constant(bass=1))
    slow = Constant(bass=1)
    slow.sample_rate = 48000
    with pytest.raises(ConfigError, match="48000"):
        Cascade(Constant(vocals=1), slow)


@pytest.mark.parametrize(
    "weights", [{}, {"b": (1, 1, 1, 1)}, {"a": (1, 1, 1)}, {"a": (1, 1, 1, float("nan"))}], ids=str
)
def test_blend_refuses_weights_that_do_not_fit(weights: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ConfigError):
        Blend({"a": SEPARATORS["demucs"]}, weights)


@pytest.mark.parametrize("weight", ["a", None, 1j, 10**400, torch.ones(2), float("inf")], ids=repr)
def test_blend_refuses_weights_that_are_no_numbers(weight: float) -> None:
    with pytest.raises(ConfigError, match="a has a weight that is not a finite number"):
        Blend({"a": SEPARATORS["demucs"]}, {"a": (1, 1, 1, weight)})


def test_a_blend_by_itself_refuses_unknown_stems() -> None:
    blend = SEPARATORS["blend"]
    assert isinstance(blend, Blend)
    for sources in (["piano"], []):
        with pytest.raises(ConfigError, match=r"no such stem: .*; there are drums"):
            blend.only(sources)


@pytest.mark.parametrize(
    "name", ["xumx", "unet", "double", "demucs", "demucs, 3 shifts", "blend", "cascade", "spleeter"]
)
def test_what_is_no_stereo_mixture_is_refused(name: str) -> None:
    """In words of ours; PyTorch's tell of convolutions."""
    separator = SEPARATORS[name]
    for shape in ((1, 9000), (3, 9000), (2, 4, 9000)):
        with pytest.raises(UnsupportedChannels, match="with 2 channels, not"):
            separator(torch.zeros(shape))
    for shape in ((2, 0), (0, 2, 9000)):
        with pytest.raises(AudioError, match="has no samples"):
            separator(torch.zeros(shape))
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(AudioError, match=f"must be float32 or float64 .* not {dtype}"):
            separator(torch.zeros((2, 9000), dtype=dtype))


def test_only_refuses_unknown_stems() -> None:
    for sources in (["guitar"], []):
        with pytest.raises(ConfigError, match="there are drums"):
            only(SEPARATORS["demucs"], sources)


@every
def test_streamed_result_does_not_depend_on_the_blocks(separator: Separator) -> None:
    """The grid of segments is absolute: blocks of 1 s or of 0.009 s give the same bits."""
    mixture = noise(2, 30000)
    grid = SegmentGrid(8192, 2048)
    one = torch.cat(list(stream(mixture.split(44100, -1), separator, grid)), -1)
    other = torch.cat(list(stream(mixture.split(400, -1), separator, grid)), -1)
    assert one.shape == (len(separator.sources), 2, 30000)
    assert torch.equal(one, other)


@every
def test_one_segment_is_the_whole(separator: Separator) -> None:
    """A track that fits into a segment is separated as it would be whole."""
    mixture = noise(2, 8000)
    whole = torch.cat(list(stream([mixture], separator, None)), -1)
    with torch.no_grad():
        assert torch.equal(whole, separator(mixture))
    assert torch.equal(torch.cat(list(stream([mixture], separator, SegmentGrid(8192, 2048))), -1), whole)


@pytest.mark.parametrize(("n_fft", "hop_length"), [(4096, 1024), (6144, 1536), (8192, 2048)])
def test_segments_see_the_frames_of_the_whole_track(n_fft: int, hop_length: int) -> None:
    """Where nothing filters: a mask that depends on the spectrum is the whole track's up to where segments meet."""

    class Louder(torch.nn.Module):
        def forward(self, magnitude: Tensor) -> Tensor:
            limits = torch.tensor([3, 10, 30, 100]).reshape(4, 1, 1, 1)
            return magnitude[:, None] / (magnitude[:, None] + limits)

    separator = MaskSeparator(Louder().eval(), 0, n_fft=n_fft, hop_length=hop_length)
    mixture = noise(2, 300_000)
    grid = segment_grid(default_segment_s(separator))
    assert grid.hop % hop_length == grid.overlap % hop_length == 0
    assert grid.length < segment_grid().length
    streamed = torch.cat(list(stream(mixture.split(5000, -1), separator, grid)), -1)
    assert (streamed - separator(mixture)).abs().max() < 1e-5


def test_streaming_stops_when_asked() -> None:
    done: list[Tensor] = []
    blocks = noise(2, 50000).split(1000, -1)
    stems = stream(blocks, SEPARATORS["demucs"], SegmentGrid(8192, 2048), cancelled=lambda: len(done) >= 2)
    with pytest.raises(Cancelled):
        done.extend(stems)
    assert len(done) == 2


@pytest.mark.parametrize("segment_s", [1, 2.5, 8.9, 60])
@pytest.mark.parametrize("overlap", [0.001, 0.07, 0.167, 0.5])
def test_segments_that_are_to_share_something_do(segment_s: float, overlap: float) -> None:
    grid = segment_grid(segment_s, overlap)
    assert 0 < grid.overlap <= max(overlap * grid.length, 6144)
    assert grid.overlap <= grid.length / 2
    assert segment_grid(segment_s, 0).overlap == 0


@pytest.mark.parametrize(
    ("segment_s", "overlap"), [(0.5, 0.25), (4000, 0.25), (10, 0.6), (10, -0.1), (float("nan"), 0)]
)
def test_grid_refuses_what_is_out_of_range(segment_s: float, overlap: float) -> None:
    with pytest.raises(ConfigError):
        segment_grid(segment_s, overlap)


def test_blocks_of_the_network_do_not_overlap() -> None:
    """The original's U-Net hears 2584 frames at a time; its masks are put side by side."""

    class Ramp(torch.nn.Module):
        def forward(self, magnitude: Tensor) -> Tensor:
            frame = torch.arange(magnitude.shape[-1]) / 100
            return frame.expand(len(magnitude), 4, *magnitude.shape[1:])

    separator = MaskSeparator(Ramp(), block_frames=7)
    mask = separator._mask(torch.ones(1, 2, 2049, 17))
    assert torch.equal(mask[0, 0, 0, 0], torch.tensor([*range(7), *range(7), *range(3)]) / 100)
    assert separator.hears_whole_tracks
    assert not SEPARATORS["unet"].hears_whole_tracks


def test_the_consumers_gradients_are_left_alone() -> None:
    """Between two blocks the caller's code runs: it must not find gradients switched off, nor frozen tensors."""
    for stems in stream(noise(2, 20000).split(5000, -1), SEPARATORS["demucs"], SegmentGrid(8192, 2048)):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        stems.mul_(2)
        weight = torch.ones(1, requires_grad=True)
        (weight * stems).sum().backward()
        assert weight.grad is not None


def test_a_blend_asks_of_each_separator_what_has_weight() -> None:
    """The rest is not computed where a separator can spare it, and asked of those that cannot all the same."""
    asked: dict[str, list[str]] = {}

    class Narrow:
        sample_rate = 44100

        def __init__(self, name: str, sources: tuple[str, ...] = SOURCES) -> None:
            self.name, self.sources = name, sources

        def only(self, sources: list[str]) -> Narrow:
            return Narrow(self.name, tuple(sources))

        def __call__(self, mixture: Tensor) -> Tensor:
            asked[self.name] = list(self.sources)
            return torch.stack([mixture * (1 + SOURCES.index(source)) for source in self.sources], -3)

    rows = {"a": (1.0, 0.25, 0.0, 0.5), "b": (0.0, 0.75, 0.0, 0.0), "c": (0.0, 0.0, 1.0, 0.5), "d": (0.0,) * 4}
    mixture = torch.randn(2, 500)
    stems = Blend({name: Narrow(name) for name in rows}, rows)(mixture)
    assert asked == {"a": ["drums", "bass", "vocals"], "b": ["bass"], "c": ["other", "vocals"]}
    assert torch.allclose(stems, torch.stack([mixture * factor for factor in (1, 2, 3, 4)]))
