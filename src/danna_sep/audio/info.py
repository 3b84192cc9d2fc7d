"""What is known about an audio file before it is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

MIN_RATE_HZ: Final = 8000
MAX_RATE_HZ: Final = 192000

Block: TypeAlias = npt.NDArray[np.float32]
"""Samples with axes (channel, time), channels in the order of WAV files."""

Samples: TypeAlias = npt.NDArray[np.number[Any]]
"""Samples of any numeric type, as a decoder or an encoder handles them."""

Warn: TypeAlias = Callable[[str], object]
"""Where one-line warnings go."""


@dataclass(frozen=True)
class AudioInfo:
    """One audio file's properties.

    Attributes:
        path: The file.
        sample_rate: Frames per second, Hz.
        n_channels: Channels of the (first) audio stream.
        n_frames: Frames as far as the header tells, None if it does not. Decoding a damaged file can give another
            number, and for compressed formats read through PyAV it can be off by a few.
        container: Such as "WAV", "FLAC", "MP3", "OGG", "M4A".
        subtype: The coding of the samples in libsndfile's manner, such as "PCM_16", "FLOAT", "MPEG_LAYER_III", "AAC".
    """

    path: Path
    sample_rate: int
    n_channels: int
    n_frames: int | None
    container: str
    subtype: str

    @property
    def duration_s(self) -> float | None:
        """Seconds, None if the header does not tell."""
        return None if self.n_frames is None else self.n_frames / self.sample_rate


class Decoder(Protocol):
    """An open file that gives its samples from first to last, once."""

    info: AudioInfo
    declared_frames: int | None  # what the file says of itself, which may be more than it holds
    tolerance_frames: int  # how inexact the container's declaration is by nature
    notes: list[str]  # what was found wrong with the file while opening or decoding it

    def read(self, n_frames: int) -> Block:
        """The next 1 to n_frames frames, (channel, time); no frames at the end."""
        ...

    def seek(self, frame: int) -> None:
        """Go on reading at a frame; behind the end, where known, at the end."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...
