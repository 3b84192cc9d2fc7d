"""An audio file as FFmpeg decodes it, without what is of this package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


def decoded_by_ffmpeg(path: Path) -> tuple[str, np.ndarray]:
    """The name of a planar float file's layout, and its samples (channel, time)."""
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    layout = frames[0].layout
    # Not frame.to_ndarray(), which crashes from eight channels on: PyAV sees more planes than there are.
    pieces = [[np.frombuffer(p, np.float32, f.samples) for p in f.planes[: len(layout.channels)]] for f in frames]
    return layout.name, np.concatenate(pieces, axis=1)
