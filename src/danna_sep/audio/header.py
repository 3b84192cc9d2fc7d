"""The number of frames that a file's header claims, read from the header itself, and what it does not count.

libsndfile trusts the file's size where that is less than the header says, and the header where it is more, and says
neither.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
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
_STREAMED_64: Final = 1 << 62
_WRAP: Final = 1 << 32
_CAF_EDIT_COUNT_BYTES: Final = 4  # in front of the samples
_UNCLOSED_SIZE: Final = struct.pack("<I", 8)  # of a RIFF file: libsndfile then takes all that follows for audio

# What may stand behind the last chunk: tags that are no chunks, and a few bytes of anything.
_TAGS: Final = (b"ID3", b"TAG", b"APET")
_MAX_JUNK_BYTES: Final = 256
_WHOLE_FILES: Final = (b"RIFF", b"RF64", b"FORM")  # look like chunks, but hold audio of their own
_COUNTED_TOO_MANY: Final = 8  # bytes, by programs that count the chunk's head as well


def declared_frames(path: Path) -> int | None:
    """Frames that a WAV, RF64, W64, AIFF, AU or CAF header claims.

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
            if magic[:4] == b"caff":
                return _caf(file)
        except struct.error:  # the header itself is cut: libsndfile decides whether it can be read
            pass
    return None


def uncounted_bytes(path: Path) -> int:
    """Bytes behind the audio of a WAV, RF64, AIFF or CAF file that are neither chunks nor tags nor zeros.

    Where a recorder crashed, or has not yet closed the file, they are audio that the header does not count.

    Returns:
        The count, 0 for any other format and for a few bytes of junk.
    """
    with path.open("rb") as file:
        try:
            counted = _counted_end(file)
        except struct.error:
            return 0
        n_bytes = 0 if counted is None else _unexplained_bytes(file, *counted)
        return n_bytes if n_bytes > _MAX_JUNK_BYTES else 0


def _counted_end(file: BinaryIO) -> tuple[int, str] | None:
    """Where the audio ends by the header's count, and how chunks begin; None where all that follows is read."""
    magic = file.read(12)
    if magic[:4] in (b"RIFF", b"RF64") and magic[8:] == b"WAVE":
        audio = _wav_audio(file)
        if audio is None or audio.n_bytes is None or (not audio.n_bytes and magic[4:8] == _UNCLOSED_SIZE):
            return None
        return audio.begin + audio.n_bytes, "<4sI"
    if magic[:4] == b"FORM" and magic[8:] in (b"AIFF", b"AIFC"):
        start, layout, align, wanted = 12, ">4sI", 2, b"SSND"
    elif magic[:4] == b"caff":
        start, layout, align, wanted = 8, ">4sq", 1, b"data"
    else:
        return None
    for identifier, size in _chunks(file, start, layout, 0, align):
        if identifier == wanted:  # of no size at all where a program wrote into a pipe
            return (file.tell() + size, layout) if size else None
    return None


def _unexplained_bytes(file: BinaryIO, end: int, layout: str) -> int:
    """Bytes from where chunks stop to make sense up to the file's end, 0 if they are all zero."""
    file_size = os.fstat(file.fileno()).st_size
    while end < file_size:
        # Some programs leave out the byte that makes a length even, and in some it is not zero.
        following = _behind_chunk(file, end, layout, file_size) or _behind_chunk(file, end + 1, layout, file_size)
        if following is None:
            return file_size - end
        end = following
    return 0


def _behind_chunk(file: BinaryIO, start: int, layout: str, file_size: int) -> int | None:
    """The end of a chunk that begins there or behind zeros, that of the file if none can follow; None for no chunk."""
    file.seek(start)
    while (block := file.read(1 << 20)) and block.count(0) == len(block):
        start += len(block)
    start += len(block) - len(block.lstrip(b"\0"))
    file.seek(start)
    width = struct.calcsize(layout)
    head = file.read(width)
    if len(head) < width or head.startswith(_TAGS):
        return file_size
    identifier, size = struct.unpack(layout, head)
    is_printable = all(0x20 <= byte < 0x7F for byte in identifier)
    end = start + width + size
    if not is_printable or identifier in _WHOLE_FILES or size < 0 or end > file_size + _COUNTED_TOO_MANY:
        return None
    return int(end)


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


@dataclass(frozen=True)
class _WavAudio:
    begin: int  # its first byte in the file
    n_bytes: int | None  # as the header counts them; None if it says that it does not know
    block_align: int  # bytes of a frame; 0 for codings where frames have no such size
    has_ds64: bool  # sizes do not wrap


def _wav_audio(file: BinaryIO) -> _WavAudio | None:
    file_size = os.fstat(file.fileno()).st_size
    block_align = 0
    ds64_size: int | None = None
    for identifier, size in _chunks(file, 12, "<4sI", 0, 2):
        if identifier == b"ds64":
            ds64_size = struct.unpack("<QQ", file.read(16))[1]
        elif identifier == b"fmt ":
            coding, _, _, _, block_align = struct.unpack("<HHIIH", file.read(14))
            if coding not in _SIMPLE_CODINGS:
                block_align = 0
        elif identifier == b"data":
            begin = file.tell()
            if ds64_size is not None and size == 0xFFFFFFFF:
                return _WavAudio(begin, ds64_size, block_align, True)
            is_streamed = size >= _STREAMED_32 and begin + size > file_size
            return _WavAudio(begin, None if is_streamed else size, block_align, ds64_size is not None)
    return None


def _wav(file: BinaryIO, path: Path) -> int | None:
    audio = _wav_audio(file)
    if audio is None or not audio.n_bytes:
        return None
    if not audio.has_ds64 and path.stat().st_size - (audio.begin + audio.n_bytes) >= _WRAP:
        raise UnreadableAudio(
            f"{path}: its header counts only the bytes beyond a multiple of 4 GiB; rewrite it as RF64, W64 or FLAC"
        )
    return audio.n_bytes // audio.block_align if audio.block_align else None


def _w64(file: BinaryIO) -> int | None:
    block_align = 0
    for identifier, size in _chunks(file, 40, "<16sQ", 24, 8):
        if identifier == _W64_FMT:
            coding, _, _, _, block_align = struct.unpack("<HHIIH", file.read(14))
            if coding not in _SIMPLE_CODINGS:
                return None
        elif identifier == _W64_DATA:
            return size // block_align if block_align and 0 < size < _STREAMED_64 else None
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


def _caf(file: BinaryIO) -> int | None:
    bytes_per_packet = 0
    for identifier, size in _chunks(file, 8, ">4sq", 0, 1):
        if identifier == b"desc":
            coding, _, bytes_per_packet = struct.unpack(">8x4sII", file.read(20))
            if coding not in (b"lpcm", b"ulaw", b"alaw"):
                return None
        elif identifier == b"data" and bytes_per_packet:
            return max(size - _CAF_EDIT_COUNT_BYTES, 0) // bytes_per_packet or None
    return None
