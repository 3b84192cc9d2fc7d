"""Masks of a track whose frames come in parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from danna_sep.models.unet import UNet
from danna_sep.models.unet_stream import UNetStream, can_stream
from danna_sep.models.xumx import XUMX
from danna_sep.shapes import Magnitude, StemMagnitudes
from danna_sep.signal.overlap_add import Cutter, Joiner, SegmentGrid

WINDOW = 1152
"""Frames that a network with LSTMs hears at once, at least."""
OVERLAP, CONTEXT = 384, 160
"""Frames that two windows share, and at a window's border those whose masks are not used. What X-UMX's LSTMs hear 160
frames away changes a stem by -54 to -61 dB in 70 s of "Caesium", with the weights that ship, before the cross-fade."""


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
    """The U-Net as one over the whole track, other networks in windows that cross-fade.

    Args:
        model: Outside training.
        n_frames: Of the track that a window is to cover besides what it shares, at least.
        n_together: Times the usual number of frames that the U-Net takes at once, where there is memory for them.
    """
    if can_stream(model):
        return UNetStream(cast("UNet", model), 128 * n_together)
    grid = SegmentGrid(max(WINDOW, n_frames + OVERLAP), OVERLAP, CONTEXT)
    if isinstance(model, XUMX):
        return WindowedMasks(model.remember, grid, model.encode, model.decode)
    return WindowedMasks(model, grid)


class WindowedMasks:
    """A network that hears one window after the other, and the masks that they cross-fade to.

    Args:
        remember: The part of the network whose results depend on other frames; windows cross-fade in what it gives.
        grid: How windows lie, in frames.
        encode: The part before it, which hears each frame by itself; None where there is none.
        decode: The part behind it, which makes masks, of a type, of each frame by itself; None where there is none.
    """

    def __init__(
        self,
        remember: Callable[[Tensor], Tensor],
        grid: SegmentGrid,
        encode: Callable[[Magnitude], Tensor] | None = None,
        decode: Callable[[Tensor, torch.dtype], StemMagnitudes] | None = None,
    ) -> None:
        self._remember, self._encode, self._decode = remember, encode, decode
        self._cutter, self._joiner = Cutter(grid), Joiner(grid)
        self._settled: deque[Tensor] = deque()
        self._dtype = torch.float32

    def hear(self, magnitude: Magnitude, is_last: bool) -> None:
        """See `MaskStream`."""
        self._dtype = magnitude.dtype
        for window in self._cutter.push(self._encode(magnitude) if self._encode else magnitude):
            self._settle(window, False)
        for window in self._cutter.finish() if is_last else ():
            self._settle(window, True)

    def _settle(self, window: Tensor, is_last: bool) -> None:
        self._settled.append(self._joiner.push(self._remember(window), is_last))

    def settled(self) -> Tensor | None:
        """See `MaskStream`."""
        return self._settled.popleft() if self._settled else None

    def masks(self, settled: Tensor) -> StemMagnitudes:
        """See `MaskStream`."""
        return self._decode(settled, self._dtype) if self._decode else settled
