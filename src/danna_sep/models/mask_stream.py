"""Masks of a track whose frames come in parts."""

from __future__ import annotations

from collections import deque
from typing import Protocol, cast, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from danna_sep.models.unet import UNet
from danna_sep.models.unet_stream import UNetStream, can_stream
from danna_sep.shapes import Magnitude
from danna_sep.signal.overlap_add import Cutter, Joiner, SegmentGrid

WINDOW = 1152
"""Frames that a network with LSTMs hears at once, at least."""
OVERLAP, CONTEXT = 384, 160
"""Frames that two windows share, and at a window's border those whose masks are not used. What X-UMX's LSTMs hear 160
frames away still changes a stem by -54 to -61 dB (of "Caesium", with the weights that ship), before the cross-fade."""


@runtime_checkable
class MaskStream(Protocol):
    """Frames of a track in, their masks out."""

    def hear(self, magnitude: Magnitude, is_last: bool) -> None:
        """Take the track's next frames, maybe none; after the last ones no more."""

    def masks(self) -> Float[Tensor, "batch source channel bin _frames"] | None:
        """Masks of the next frames, maybe of none yet; None where more must be heard first, or nothing is left."""


def open_mask_stream(model: nn.Module, n_frames: int, n_together: int) -> MaskStream:
    """The U-Net as one over the whole track, other networks in windows that cross-fade.

    Args:
        model: Outside training.
        n_frames: Of the track that a window is to cover besides what it shares, at least.
        n_together: Times the usual number of frames that the U-Net takes at once, where there is memory for them.
    """
    if can_stream(model):
        return UNetStream(cast("UNet", model), 256 * n_together)
    return WindowedMasks(model, SegmentGrid(max(WINDOW, n_frames + OVERLAP), OVERLAP, CONTEXT))


class WindowedMasks:
    """A network that hears one window after the other, and the masks that they cross-fade to.

    Args:
        model: Outside training.
        grid: How windows lie, in frames.
    """

    def __init__(self, model: nn.Module, grid: SegmentGrid) -> None:
        self.model = model
        self._cutter, self._joiner = Cutter(grid), Joiner(grid)
        self._windows: deque[tuple[Magnitude, bool]] = deque()

    def hear(self, magnitude: Magnitude, is_last: bool) -> None:
        """See `MaskStream`."""
        self._windows.extend((window, False) for window in self._cutter.push(magnitude))
        if is_last:
            self._windows.extend((window, True) for window in self._cutter.finish())

    def masks(self) -> Float[Tensor, "batch source channel bin _frames"] | None:
        """See `MaskStream`."""
        if not self._windows:
            return None
        window, is_last = self._windows.popleft()
        settled: Tensor = self._joiner.push(self.model(window), is_last)
        return settled
