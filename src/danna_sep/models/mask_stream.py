"""Masks of a track whose frames come in parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from danna_sep.models.lstm_stream import LSTMStream
from danna_sep.models.unet import UNet
from danna_sep.models.unet_framed import FramedUNet
from danna_sep.models.unet_layers import can_stream, layers_of
from danna_sep.models.unet_stream import UNetStream
from danna_sep.models.xumx import XUMX
from danna_sep.shapes import Magnitude, StemMagnitudes
from danna_sep.signal.overlap_add import Cutter, Joiner, SegmentGrid

WINDOW, OVERLAP, CONTEXT = 1152, 384, 160
"""Frames that a network without a stream of its own hears at once, at least, those that two such windows share, and at
a window's border those whose masks are not used."""
AHEAD = 512
"""Frames that X-UMX's LSTMs hear behind those whose masks are wanted. What lies farther behind is lost in rounding, but
where a song is quiet for long: all of "Caesium", with the weights that ship, changes by -77 dB or less."""
_FRAMES, _PARTS = 128, 2
"""Frames that the U-Net hears at once, for with fewer its inner stages have too little to do at a time, and parts in
which they go through its outermost stages, so that features stay small;"""
_SINGLE_FRAMES, _SINGLE_PARTS = 64, 4
"""the same in single precision on a CPU, where features take the more memory."""
_TOGETHER = 128
"""Frames for which X-UMX makes masks at once."""


@runtime_checkable
class MaskStream(Protocol):
    """Frames of a track in, their masks out."""

    def hear(self, magnitude: Magnitude, is_last: bool) -> None:
        """Take the track's next frames, maybe none; after the last ones no more."""

    def settled(self) -> Tensor | None:
        """What masks of the next frames, or still of none, are made of, in as little memory as possible.

        Its last axis is frames. None before more is heard, and at the end.
        """

    def masks(self, settled: Tensor) -> StemMagnitudes:
        """Masks of frames, of any number of those that were `settled`."""


def open_mask_stream(model: nn.Module, n_frames: int, n_together: int) -> MaskStream:
    """The U-Net as one over the whole track, X-UMX as nearly that, other networks in windows that cross-fade.

    Args:
        model: Outside training.
        n_frames: Of the track that a window is to cover besides what it shares, at least.
        n_together: Times the usual number of frames that the U-Net takes at once, where there is memory for them.
    """
    if isinstance(model, FramedUNet) or can_stream(model):
        layers = model.layers if isinstance(model, FramedUNet) else layers_of(cast("UNet", model))
        is_single = layers.device.type == "cpu" and layers.dtype == torch.float32
        n_at_once, n_parts = (_SINGLE_FRAMES, _SINGLE_PARTS) if is_single else (_FRAMES, _PARTS)
        return UNetStream(layers, n_at_once * n_together, n_parts)
    if isinstance(model, XUMX):
        return XUMXStream(model, max(WINDOW - AHEAD, n_frames))
    return WindowedMasks(model, SegmentGrid(max(WINDOW, n_frames + OVERLAP), OVERLAP, CONTEXT))


class XUMXStream:
    """An X-UMX that remembers the track so far, and hears `AHEAD` frames of what follows.

    Args:
        model: Outside training.
        n_frames: Whose masks are settled at once.
    """

    def __init__(self, model: XUMX, n_frames: int) -> None:
        self._model, self._n_frames = model, n_frames
        self._encoder = model.scaled_encoder()
        self._lstms = [LSTMStream(cast("nn.LSTM", lstm)) for lstm in model.lstms]
        self._cutter = Cutter(SegmentGrid(n_frames + AHEAD, AHEAD))
        self._settled: deque[Tensor] = deque()
        self._dtype = torch.float32

    def hear(self, magnitude: Magnitude, is_last: bool) -> None:
        """See `MaskStream`."""
        self._dtype = magnitude.dtype
        for window in self._cutter.push(self._model.encode(magnitude, self._encoder)) if magnitude.shape[-1] else ():
            self._settle(window, self._n_frames)
        for window in self._cutter.finish() if is_last else ():
            self._settle(window, window.shape[-1])

    def _settle(self, window: Tensor, n_settled: int) -> None:
        frames = window.transpose(1, 2)
        recurrent = [lstm.push(frames, n_settled) for lstm in self._lstms]
        self._settled.append(self._model.join(window, recurrent))

    def settled(self) -> Tensor | None:
        """See `MaskStream`."""
        return self._settled.popleft() if self._settled else None

    def masks(self, settled: Tensor) -> StemMagnitudes:
        """See `MaskStream`."""
        config, n_frames = self._model.config, settled.shape[-1]
        axes = (config.n_sources, config.n_channels, config.n_output_bins, n_frames)
        masks = torch.empty(len(settled), *axes, dtype=self._dtype, device=settled.device)
        # Some at a time: on the way to masks they take three times as much memory.
        for start in range(0, n_frames, _TOGETHER):
            some = slice(start, start + _TOGETHER)
            masks[..., some] = self._model.decode(settled[..., some], self._dtype)
        return masks


class WindowedMasks:
    """A network that hears one window after the other, and the masks that they cross-fade to.

    Args:
        model: Makes masks of magnitudes.
        grid: How windows lie, in frames.
    """

    def __init__(self, model: Callable[[Magnitude], StemMagnitudes], grid: SegmentGrid) -> None:
        self._model = model
        self._cutter, self._joiner = Cutter(grid), Joiner(grid)
        self._settled: deque[Tensor] = deque()

    def hear(self, magnitude: Magnitude, is_last: bool) -> None:
        """See `MaskStream`."""
        for window in self._cutter.push(magnitude):
            self._settled.append(self._joiner.push(self._model(window), False))
        for window in self._cutter.finish() if is_last else ():
            self._settled.append(self._joiner.push(self._model(window), True))

    def settled(self) -> Tensor | None:
        """See `MaskStream`."""
        return self._settled.popleft() if self._settled else None

    def masks(self, settled: Tensor) -> StemMagnitudes:
        """See `MaskStream`."""
        return settled
