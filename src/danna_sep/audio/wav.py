"""WAV and RF64 headers, and samples as integers.

Written here rather than by libsndfile because it holds back what the operating system says of a full disk, and so
that a file can become RF64 (EBU Tech 3306) after the fact: the room for that is kept in a JUNK chunk.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from danna_sep.audio.info import Block

RIFF_LIMIT_BYTES = (1 << 32) - 1
"""The largest size that a plain WAV header can tell; beyond it a file becomes RF64."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_GUID_TAIL: Final = bytes.fromhex("000000001000800000aa00389b71")
_UNKNOWN_32: Final = 0xFFFFFFFF


def wav_header(sample_rate: int, n_channels: int, bits: str, n_frames: int) -> bytes:
    """A header whose length depends on the number of channels and the sample type only.

    Args:
        sample_rate: Hz.
        n_channels: Channels.
        bits: "16", "24" or "float".
        n_frames: Frames that follow.

    Returns:
        All bytes before the first sample: of a WAV file, or of an RF64 file beyond `RIFF_LIMIT_BYTES`.
    """
    coding, width = (_FLOAT, 4) if bits == "float" else (_PCM, int(bits) // 8)
    align = n_channels * width
    data_size = n_frames * align
    fields = (n_channels, sample_rate, sample_rate * align, align, width * 8)
    if n_channels > 2:  # the extensible form is required; mask 0: the speakers are not known here
        tail = struct.pack("<HHIH", 22, width * 8, 0, coding) + _GUID_TAIL
        fmt = struct.pack("<HHIIHH", _EXTENSIBLE, *fields) + tail
    else:
        fmt = struct.pack("<HHIIHH", coding, *fields) + (b"\0\0" if coding == _FLOAT else b"")
    fact = struct.pack("<4sII", b"fact", 4, min(n_frames, _UNKNOWN_32)) if coding == _FLOAT else b""
    middle = struct.pack("<4sI", b"fmt ", len(fmt)) + fmt + fact
    riff_size = 4 + 36 + len(middle) + 8 + data_size + data_size % 2
    if riff_size <= RIFF_LIMIT_BYTES:
        reserve = struct.pack("<4sI28x", b"JUNK", 28)
        return (
            struct.pack("<4sI4s", b"RIFF", riff_size, b"WAVE")
            + reserve
            + middle
            + struct.pack("<4sI", b"data", data_size)
        )
    ds64 = struct.pack("<4sIQQQI", b"ds64", 28, riff_size, data_size, n_frames, 0)
    return (
        struct.pack("<4sI4s", b"RF64", _UNKNOWN_32, b"WAVE") + ds64 + middle + struct.pack("<4sI", b"data", _UNKNOWN_32)
    )


def to_integers(block: Block, bits: str, gain: float) -> tuple[npt.NDArray[np.int32], int]:
    """Round samples to integers of a width.

    The scale is that of reading: code / 2^(bits - 1), so that integers which were read come back as they were. A
    sample of exactly +1.0 has no code and takes the one below it.

    Args:
        block: Samples of any shape.
        bits: "16" or "24".
        gain: Factor put on them first.

    Returns:
        Codes in the shape of `block`, and how many samples had to take another code than the nearest.
    """
    full_scale = 1 << (int(bits) - 1)
    scaled = np.rint(block.astype(np.float64) * (gain * full_scale))
    n_clipped = int(np.count_nonzero((scaled > full_scale - 1) | (scaled < -full_scale)))
    return np.clip(scaled, -full_scale, full_scale - 1).astype(np.int32), n_clipped


def to_bytes(codes: npt.NDArray[np.int32], bits: str) -> bytes:
    """Integers as little-endian bytes of their width."""
    if bits == "16":
        return codes.astype("<i2").tobytes()
    return np.ascontiguousarray(codes, dtype="<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
