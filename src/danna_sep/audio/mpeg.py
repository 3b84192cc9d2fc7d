"""The frames of an MP3 file, found one by one, and a view of the file without what is not frames.

Two things that libsndfile (1.2) does in silence make this needed: it stops where more than a kilobyte in the middle is
damaged, and where no Xing header tells the number of frames it guesses it from the first bit rate and cuts off what
is beyond the guess. The view has only frames in it, after a Xing header with their true number.
"""

from __future__ import annotations

import functools
import io
import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_LAYER_III: Final = 1
_MPEG_1: Final = 3
_BIT_RATES: Final = {  # kbit/s of indices 1 to 14, by (is MPEG-1, layer bits)
    (True, 3): tuple(range(32, 449, 32)),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_CHAIN: Final = 3  # consecutive frame headers that are no coincidence
_MAX_LEADING_BYTES: Final = 1 << 16  # what is in front of the first frame of a file that is an MP3
_OTHER_FORMATS: Final = (b"fLaC", b"OggS", b"RIFF", b"RF64", b"FORM", b"caff")
_SUFFIXES: Final = (".mp3", ".mp2", ".mp1", ".mpga")


_FORGET_BYTES = 1 << 22


@dataclass
class _Kind:
    """What all frames of a file have in common, and from it the size of each."""

    version: int
    layer: int
    rate_index: int
    is_mono: bool
    sizes: dict[int, int] = field(default_factory=dict, compare=False)  # by the third header byte

    def __post_init__(self) -> None:
        is_mpeg_1 = self.version == _MPEG_1
        rate_hz = _RATES_HZ[self.version][self.rate_index]
        for index, kbit_s in enumerate(_BIT_RATES[is_mpeg_1, self.layer], start=1):
            for padding in (0, 1):
                if self.layer == 3:
                    size = (12_000 * kbit_s // rate_hz + padding) * 4
                else:
                    half = self.layer == _LAYER_III and not is_mpeg_1
                    size = (72_000 if half else 144_000) * kbit_s // rate_hz + padding
                for private in (0, 1):
                    self.sizes[index << 4 | self.rate_index << 2 | padding << 1 | private] = size

    @property
    def second_byte(self) -> int:
        return 0xE0 | self.version << 3 | self.layer << 1  # the lowest bit tells of a checksum and may vary

    @property
    def xing_offset(self) -> int:
        """Where a Xing header stands in its frame: behind 4 bytes of header and the side information."""
        if self.version == _MPEG_1:
            return 4 + (17 if self.is_mono else 32)
        return 4 + (9 if self.is_mono else 17)


@dataclass
class _Scan:
    kind: _Kind
    spans: list[tuple[int, int]]  # where frames stand end to end, (first byte, byte behind the last)
    n_frames: int
    n_leading: int  # bytes before the first frame that are no tag
    n_damaged: int  # bytes between frames that are none


def repaired_mp3(path: Path) -> tuple[io.RawIOBase, str] | None:
    """Give an MP3 file as libsndfile needs it.

    Returns:
        None if the file is no MP3 or can be read as it is. Otherwise a readable view, and a note about damage, empty
        if there is none.
    """
    with path.open("rb") as file:
        head = file.read(4)
        is_likely = head[:3] == b"ID3" or _kind(head) is not None or path.suffix.lower() in _SUFFIXES
        if not is_likely:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            scan = _scan(data)
            if scan is None:
                return None
            return _view(path, data, scan)


def _view(path: Path, data: mmap.mmap, scan: _Scan) -> tuple[io.RawIOBase, str] | None:
    kind = scan.kind
    spans = list(scan.spans)
    start = spans[0][0]
    first_size = kind.sizes[data[start + 2]]
    pieces: list[bytes | tuple[int, int]] = []
    note = f"damaged: {scan.n_damaged} bytes between MPEG frames left out" if scan.n_damaged else ""
    needed = bool(scan.n_damaged or scan.n_leading)
    if kind.layer == _LAYER_III:
        first = data[start : start + first_size]
        n_declared = _xing_frames(first, kind)
        is_header = n_declared is not None or first[36:40] == b"VBRI"
        n_audio = scan.n_frames - is_header
        if n_declared:
            n_bytes = sum(end - begin for begin, end in spans)
            header = _corrected(first, kind, max(n_declared, n_audio), n_bytes)
        else:
            header = _xing_header(kind, first[:4], n_audio)
        if header != first:
            needed = True
            pieces.append(header)
            if is_header:
                spans[0] = (start + first_size, spans[0][1])
    if not needed:
        return None
    return _Spliced(path, [*pieces, *spans]), note


def _scan(data: mmap.mmap) -> _Scan | None:
    end = len(data)
    tagged = _behind_tags(data)
    if data[tagged : tagged + 4] in _OTHER_FORMATS:
        return None
    position = _find_chain(data, tagged, None)
    if position is None or position > tagged + _MAX_LEADING_BYTES:
        return None
    kind = _kind(data[position : position + 4])
    assert kind is not None
    scan = _Scan(kind, [], 0, position - tagged, 0)
    second_byte, sizes = kind.second_byte, kind.sizes
    forgotten = 0
    while True:
        first = previous = position
        while (
            position + 4 <= end
            and data[position] == 0xFF
            and data[position + 1] & 0xFE == second_byte
            and (data[position + 3] >= 0xC0) == kind.is_mono
            and (size := sizes.get(data[position + 2])) is not None
        ):
            previous = position
            position += size
            scan.n_frames += 1
            if position > forgotten + _FORGET_BYTES:
                _forget(data, position)
                forgotten = position
        following = _find_chain(data, previous + 4, kind) if position < end else None
        if following is None:
            # The end, or a last frame that is cut short: the decoder pads it.
            scan.spans.append((first, min(position, end)))
            return scan
        if following < position:  # bytes are missing in the last frame: it reaches into the next
            position = previous
            scan.n_frames -= 1
        if position > first:
            scan.spans.append((first, position))
        scan.n_damaged += following - position
        position = following


def _forget(data: mmap.mmap, position: int) -> None:
    """Let go of the pages before `position`, which count as this process's memory as long as they are mapped."""
    if hasattr(mmap, "MADV_DONTNEED"):
        data.madvise(mmap.MADV_DONTNEED, 0, position - position % mmap.PAGESIZE)


def _behind_tags(data: mmap.mmap) -> int:
    """The first byte behind any ID3v2 tags."""
    position = 0
    while data[position : position + 3] == b"ID3" and len(data) >= position + 10:
        size = 0
        for byte in data[position + 6 : position + 10]:
            size = size << 7 | byte & 0x7F
        position += 10 + size + (10 if data[position + 5] & 0x10 else 0)
    return min(position, len(data))


def _find_chain(data: mmap.mmap, position: int, kind: _Kind | None) -> int | None:
    """The first place from `position` on where frames (of a kind, if given) follow one another."""
    while (position := data.find(b"\xff", position)) >= 0:
        if _is_chain(data, position, kind):
            return position
        position += 1
    return None


def _is_chain(data: mmap.mmap, position: int, kind: _Kind | None) -> bool:
    for n_found in range(_CHAIN):
        if n_found and position == len(data):
            return True  # too short a file for more
        found = _kind(data[position : position + 4])
        if found is None or (kind is not None and found != kind):
            return False
        kind = found
        position += kind.sizes[data[position + 2]]
    return True


def _kind(header: bytes) -> _Kind | None:
    """Read a frame header; None if it is none, or of the free format, whose frames do not tell their size."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bit_rate_index, rate_index = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 0 or rate_index == 3 or bit_rate_index in (0, 15):
        return None
    return _make_kind(version, layer, rate_index, header[3] >= 0xC0)


@functools.cache
def _make_kind(version: int, layer: int, rate_index: int, is_mono: bool) -> _Kind:
    return _Kind(version, layer, rate_index, is_mono)


def _xing_frames(frame: bytes, kind: _Kind) -> int | None:
    """The number of frames in a Xing (or, for constant rates, Info) header; 0 if it does not tell; None without one."""
    offset = kind.xing_offset
    if frame[offset : offset + 4] not in (b"Xing", b"Info") or len(frame) < offset + 12:
        return None
    flags, n_frames = struct.unpack_from(">II", frame, offset + 4)
    return int(n_frames) if flags & 1 else 0


def _xing_header(kind: _Kind, header: bytes, n_frames: int) -> bytes:
    """A frame that says only how many frames follow."""
    # Any bit rate with enough room will do; no padding, no checksum.
    third = next(b for b, size in kind.sizes.items() if not b & 3 and size >= kind.xing_offset + 12)
    frame = bytes((0xFF, kind.second_byte | 1, third, header[3])) + bytes(kind.xing_offset - 4)
    frame += struct.pack(">4sII", b"Xing", 1, n_frames)
    return frame.ljust(kind.sizes[third], b"\0")


def _corrected(frame: bytes, kind: _Kind, n_frames: int, n_bytes: int) -> bytes:
    """A Xing header with another number of frames, and of bytes if that is far off (the decoder would grumble)."""
    offset = kind.xing_offset + 8
    frame = frame[:offset] + struct.pack(">I", n_frames) + frame[offset + 4 :]
    if frame[offset - 1] & 2 and len(frame) >= offset + 8:
        (n_declared,) = struct.unpack_from(">I", frame, offset + 4)
        if abs(n_declared - n_bytes) * 100 > n_bytes:
            frame = frame[: offset + 4] + struct.pack(">I", n_bytes & 0xFFFFFFFF) + frame[offset + 8 :]
    return frame


class _Spliced(io.RawIOBase):
    """A read-only file made of pieces: bytes, and ranges of another file."""

    def __init__(self, path: Path, pieces: list[bytes | tuple[int, int]]) -> None:
        self._file = path.open("rb")
        self._pieces: list[tuple[int, int, Any]] = []  # first and end position in the view, and what is there
        end = 0
        for piece in pieces:
            size = len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
            self._pieces.append((end, end + size, piece))
            end += size
        self._size = end
        self._position = 0
        self._current = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        self._current = 0
        return self._position

    def readinto(self, buffer: Any) -> int:
        n_read = 0
        while n_read < len(buffer) and self._current < len(self._pieces):
            first, end, piece = self._pieces[self._current]
            if self._position >= end:
                self._current += 1
                continue
            offset = self._position - first
            n_wanted = min(len(buffer) - n_read, end - self._position)
            if isinstance(piece, bytes):
                data = piece[offset : offset + n_wanted]
            else:
                self._file.seek(piece[0] + offset)
                data = self._file.read(n_wanted)
            if not data:
                break
            buffer[n_read : n_read + len(data)] = data
            n_read += len(data)
            self._position += len(data)
        return n_read

    def close(self) -> None:
        self._file.close()
        super().close()
