"""Networks that hear a track in windows: what their masks cross-fade to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from danna_sep.models import XUMX, UNet, UNetConfig, XUMXConfig
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


def test_lstms_hear_far_enough_for_seams_that_cannot_be_heard() -> None:
    """A random X-UMX remembers less than a trained one, but less context would show."""
    torch.manual_seed(0)
    model = XUMX(XUMXConfig(n_bins=80, hidden=32, n_lstm_layers=2)).eval()
    magnitude = torch.rand(1, 2, 2049, 2500)
    with torch.no_grad():
        whole = model(magnitude)
        stream = open_mask_stream(model, 384, 1)
        stream.hear(magnitude, True)
        windowed = torch.cat([stream.masks(settled) for settled in iter(stream.settled, None)], -1)
        apart = torch.cat([model(part) for part in magnitude.split(384, -1)], -1)

    def level_db(masks: Tensor) -> float:
        return float(10 * torch.log10((masks - whole).square().amax(-1).mean() / whole.square().mean()))

    assert level_db(windowed) < -100
    assert level_db(apart) > -60


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
