"""Networks that hear a track in windows: what their masks cross-fade to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from danna_sep.models import XUMX, UNet, UNetConfig, XUMXConfig, mask_stream
from danna_sep.models.mask_stream import WindowedMasks, open_mask_stream
from danna_sep.models.unet_stream import UNetStream
from danna_sep.signal.overlap_add import SegmentGrid


class Shares(nn.Module):
    """Masks that tell what was heard, and how much at once."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[int] = []

    def forward(self, magnitude: Tensor) -> Tensor:
        self.heard.append(magnitude.shape[-1])
        return torch.stack([magnitude * share for share in (1, 2, 3, 4)], 1)


@pytest.mark.parametrize("n_frames", [1, 30, 31, 100, 217])
@pytest.mark.parametrize("step", [1, 7, 50, 500])
def test_masks_come_for_all_frames_in_order(n_frames: int, step: int) -> None:
    """Of frames that come in any parts, empty ones included."""
    model, grid = Shares(), SegmentGrid(30, 12, 5)
    stream = WindowedMasks(model, grid)
    magnitude = torch.rand(2, 2, 5, n_frames)
    masks = []
    for part in (*magnitude.split(step, -1), magnitude[..., :0]):
        stream.hear(part, False)
        masks += [stream.masks(settled) for settled in iter(stream.settled, None)]
    stream.hear(magnitude[..., :0], True)
    masks += [stream.masks(settled) for settled in iter(stream.settled, None)]
    torch.testing.assert_close(torch.cat(masks, -1), Shares()(magnitude))
    assert len(model.heard) == grid.n_segments(n_frames)
    assert set(model.heard[:-1]) <= {30}


def random_xumx() -> XUMX:
    torch.manual_seed(0)
    return XUMX(XUMXConfig(n_bins=80, hidden=32, n_lstm_layers=2)).eval()


def level_db(error: Tensor, of: Tensor) -> float:
    return float(10 * torch.log10(error.square().amax(-1).mean() / of.square().mean()))


@pytest.mark.parametrize("n_frames", [1, 1151, 1152, 1153, 2500])
@pytest.mark.parametrize("step", [100, 3000])
def test_xumx_hears_a_track_as_one(n_frames: int, step: int) -> None:
    """Whatever parts it comes in: what lies too far ahead is lost in rounding, what lies behind is remembered."""
    model = random_xumx()
    magnitude = torch.rand(1, 2, 2049, n_frames)
    stream = open_mask_stream(model, 384, 1)
    masks = []
    with torch.no_grad():
        whole = model(magnitude)
        for part in magnitude.split(step, -1):
            stream.hear(part, False)
            masks += [stream.masks(settled) for settled in iter(stream.settled, None)]
        stream.hear(magnitude[..., :0], True)
        masks += [stream.masks(settled) for settled in iter(stream.settled, None)]
        apart = torch.cat([model(part) for part in magnitude.split(640, -1)], -1)
    streamed = torch.cat(masks, -1)
    assert streamed.shape == whole.shape
    assert level_db(streamed - whole, whole) < -100
    assert n_frames == 1 or n_frames < 2000 or level_db(apart - whole, whole) > -60


def test_xumx_settles_as_soon_as_it_has_heard_ahead() -> None:
    stream = open_mask_stream(random_xumx(), 384, 1)
    with torch.no_grad():
        stream.hear(torch.rand(1, 2, 2049, mask_stream.WINDOW), False)
        assert stream.settled() is None
        stream.hear(torch.rand(1, 2, 2049, 1), False)
        settled = stream.settled()
    assert settled is not None
    assert settled.shape[-1] == mask_stream.WINDOW - mask_stream.AHEAD


def test_windows_grow_with_segments() -> None:
    """Whoever asks for longer segments wants more to be heard together."""
    model = Shares()
    stream = open_mask_stream(model, 3000, 1)
    stream.hear(torch.rand(1, 2, 5, 4000), False)
    assert stream.settled() is not None
    assert model.heard[0] > 3000


def test_the_unet_hears_all() -> None:
    config = UNetConfig(n_bins=64, growth=2, n_layers=(1, 1), bottleneck_width=4, n_heads=1, head_width=4)
    assert isinstance(open_mask_stream(UNet(config).eval(), 384, 1), UNetStream)
