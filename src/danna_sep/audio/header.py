"""The number of frames that a file's header claims, read from the header itself.

libsndfile trusts the file's size where it disagrees with the header, rightly, but then does not say so.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from danna_sep.errors import UnreadableAudio

_W64_RIFF: Final = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_FMT: Final = bytes.fromhex("666d7420f3acd3118cd100c04f8edb8a")
_W64_DATA: Final = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")

# One sample per channel and block: PCM, float, A-law, mu-law, and extensible (which wraps these).
_SIMPLE_CODINGS: Final = (1, 3, 6, 7, 0xFFFE)

# Sizes from here on mean "not known": what programs that write into a pipe put there.
_STREAMED_32: Final = 0x7FFFF000
_WRAP: Final = 1 << 32


def declared_frames(path: Path) -> int | None:
    """Frames that a WAV, RF64, W64, AIFF or AU header claims.

    Returns:
        The count, or None where the header does not tell, or for any other format or coding.

    Raises:
        UnreadableAudio: The size in a WAV header has wrapped at 4 GiB, so that most of the file would be left out.
    """
    with path.open("rb") as file:
        magic = file.read(16)
        try:
            if magic[:4] in (b"RIFF", b"RF64") and magic[8:12] == b"WAVE":
                return _wav(file, path)
            if magic == _W64_RIFF:
                return _w64(file)
            if magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"):
                return _aiff(file)
            if magic[:4] == b".snd":
                return _au(file)
        except struct.error:  # the header itself is cut: libsndfile decides whether it can be read
            pass
    return None


def _chunks(file: BinaryIO, start: int, layout: str, overhead: int, align: int) -> Iterator[tuple[bytes, int]]:
    """Walk chunks: yields (id, size of the body) with the file standing at the body."""
    width = struct.calcsize(layout)
    file_size = os.fstat(file.fileno()).st_size
    while start <= file_size:  # a damaged size may reach beyond what can be sought
        file.seek(start)
        head = file.read(width)
        if len(head) < width:
            return
        identifier, size = struct.unpack(layout, head)
        size -= overhead
        if size < 0:
            return
        yield identifier, size
        start += width + size + (-size) % align


def _wav(file: BinaryIO, path: Path) -> int | None:
    file_size = path.stat().st_size
    block_align = 0
    ds64_size: int | None = None
    for identifier, size in _chunks(file, 12, "<4sI", 0, 2):
        if identifier == b"ds64":
            ds64_size = struct.unpack("<QQ", file.read(16))[1]
        elif identifier == b"fmt ":
            coding, _, _, _, block_align = struct.unpack("<HHIIH", file.read(14))
            if coding not in _SIMPLE_CODINGS:
                return None
        elif identifier == b"data":
            if ds64_size is not None and size == 0xFFFFFFFF:
                size = ds64_size
            elif size == 0 or (size >= _STREAMED_32 and file.tell() + size > file_size):
                return None
            elif file_size - (file.tell() + size) >= _WRAP:
                raise UnreadableAudio(
                    f"{path}: its header counts only the bytes beyond a multiple of 4 GiB; "
                    "rewrite it as RF64, W64 or FLAC"
                )
            return size // block_align if block_align else None
    return None


def _w64(file: BinaryIO) -> int | None:
    block_align = 0
    for identifier, size in _chunks(file, 40, "<16sQ", 24, 8):
        if identifier == _W64_FMT:
            coding, _, _, _, block_align = struct.unpack("<HHIIH", file.read(14))
            if coding not in _SIMPLE_CODINGS:
                return None
        elif identifier == _W64_DATA:
            return size // block_align if block_align and size else None
    return None


def _aiff(file: BinaryIO) -> int | None:
    is_compressed = False
    file.seek(8)
    is_compressed = file.read(4) == b"AIFC"
    for identifier, _ in _chunks(file, 12, ">4sI", 0, 2):
        if identifier == b"COMM":
            _, n_frames, _, _ = struct.unpack(">HIH10s", file.read(18))
            if is_compressed and file.read(4) not in (b"NONE", b"sowt", b"fl32", b"FL32", b"fl64", b"FL64", b"twos"):
                return None
            return int(n_frames) or None
    return None


def _au(file: BinaryIO) -> int | None:
    file.seek(4)
    _, size, coding, _, n_channels = struct.unpack(">IIIII", file.read(20))
    width = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(coding)
    if width is None or not n_channels or size in (0, 0xFFFFFFFF):
        return None
    return int(size // (width * n_channels))
