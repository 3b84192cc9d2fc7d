"""The frames of an MP3 file, found one by one, and a view of the file without what is not frames.

Two things that libsndfile (1.2) does in silence make this needed: it stops where more than a kilobyte in the middle is
damaged, and where no Xing header tells the number of frames it guesses it from the first bit rate and cuts off what
is beyond the guess. The view has only frames in it, after a Xing header with their true number.
"""

from __future__ import annotations

import io
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from danna_sep.audio.mpeg_frames import LAYER_III, Kind, find_chain, read_kind
from danna_sep.audio.mpeg_tags import behind_tags, untagged_end
from danna_sep.errors import UnreadableAudio

_MAX_LEADING_BYTES: Final = 1 << 16  # what is in front of the first frame of a file that is an MP3
_OTHER_FORMATS: Final = (b"fLaC", b"OggS", b"RIFF", b"RF64", b"FORM", b"caff")
_SUFFIXES: Final = (".mp3", ".mp2", ".mp1", ".mpga")
_FORGET_BYTES: Final = 1 << 22


@dataclass
class _Scan:
    kind: Kind
    spans: list[tuple[int, int]]  # where frames stand end to end, (first byte, byte behind the last)
    n_frames: int
    n_leading: int  # bytes before the first frame that are no tag
    n_damaged: int  # bytes between frames that are none
    n_behind: int = 0  # bytes behind the last frame that are no tag, if more than a frame has
    is_cut_by_tag: bool = False  # the last frame; the decoder would take the tag for the rest of it


def repaired_mp3(path: Path) -> tuple[io.RawIOBase, str] | None:
    """Give an MP3 file as libsndfile needs it.

    Returns:
        None if the file is no MP3 or can be read as it is. Otherwise a readable view, and a note about damage, empty
        if there is none.

    Raises:
        UnreadableAudio: The sample rate or the number of channels changes midway.
    """
    with path.open("rb") as file:
        head = file.read(4)
        is_likely = head[:3] == b"ID3" or read_kind(head) is not None or path.suffix.lower() in _SUFFIXES
        if not is_likely:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            scan = _scan(data, path)
            if scan is None:
                return None
            return _view(path, data, scan)


def _view(path: Path, data: mmap.mmap, scan: _Scan) -> tuple[io.RawIOBase, str] | None:
    kind = scan.kind
    spans = list(scan.spans)
    start = spans[0][0]
    first_size = kind.sizes[data[start + 2]]
    pieces: list[bytes | tuple[int, int]] = []
    n_damaged = scan.n_damaged + scan.n_behind
    needed = bool(n_damaged or scan.n_leading or scan.is_cut_by_tag)
    if kind.layer == LAYER_III:
        first = data[start : start + first_size]
        n_declared = _xing_frames(first, kind)
        is_header = n_declared is not None or first[36:40] == b"VBRI"
        n_audio = scan.n_frames - is_header
        if n_declared == n_audio:  # all is there, so that what stands behind is something else
            n_damaged = scan.n_damaged
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
    note = f"damaged: {n_damaged} bytes that are no MPEG frames left out" if n_damaged else ""
    return _Spliced(path, [*pieces, *spans]), note


def _scan(data: mmap.mmap, path: Path) -> _Scan | None:
    end = len(data)
    tagged = behind_tags(data)
    if data[tagged : tagged + 4] in _OTHER_FORMATS:
        return None
    position = find_chain(data, tagged, None)
    if position is None or position > tagged + _MAX_LEADING_BYTES:
        return None
    kind = read_kind(data[position : position + 4])
    assert kind is not None
    scan = _Scan(kind, [], 0, position - tagged, 0)
    second_byte, sizes, longest = kind.second_byte, kind.sizes, max(kind.sizes.values())
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
        following = find_chain(data, previous + 4, kind) if position < end else None
        behind = behind_tags(data, position)  # where the next part of a joined file begins
        if following is None:
            end = untagged_end(data, previous + 4)
            n_other = max(0, end - behind)
            scan.is_cut_by_tag = end < min(position, len(data))
        else:
            behind = behind if behind <= following else position  # the size of a tag may be wrong
            n_other = following - behind
        if n_other > longest:
            changed = find_chain(data, behind, None)  # in text of 16 bits frames seem to follow one another
            if changed is not None and changed != following:
                raise UnreadableAudio(
                    f"{path}: sample rate or channels change at {scan.n_frames * kind.n_samples / kind.rate_hz:.1f} s; "
                    "convert it to one rate first"
                )
        if following is None:
            # The end, or a last frame that is cut short: the decoder pads it.
            scan.spans.append((first, min(position, end)))
            scan.n_behind = n_other if n_other > longest else 0
            return scan
        if following < position:  # bytes are missing in the last frame: it reaches into the next
            position = previous
            scan.n_frames -= 1
            n_other = following - position
        if position > first:
            scan.spans.append((first, position))
        scan.n_damaged += n_other
        position = following


def _forget(data: mmap.mmap, position: int) -> None:
    """Let go of the pages before `position`, which count as this process's memory as long as they are mapped."""
    if hasattr(mmap, "MADV_DONTNEED"):
        data.madvise(mmap.MADV_DONTNEED, 0, position - position % mmap.PAGESIZE)


def _xing_frames(frame: bytes, kind: Kind) -> int | None:
    """The number of frames in a Xing (or, for constant rates, Info) header; 0 if it does not tell; None without one."""
    offset = kind.xing_offset
    if frame[offset : offset + 4] not in (b"Xing", b"Info") or len(frame) < offset + 12:
        return None
    flags, n_frames = struct.unpack_from(">II", frame, offset + 4)
    return int(n_frames) if flags & 1 else 0


def _xing_header(kind: Kind, header: bytes, n_frames: int) -> bytes:
    """A frame that says only how many frames follow."""
    # Any bit rate with enough room will do; no padding, no checksum.
    third = next(b for b, size in kind.sizes.items() if not b & 3 and size >= kind.xing_offset + 12)
    frame = bytes((0xFF, kind.second_byte | 1, third, header[3])) + bytes(kind.xing_offset - 4)
    frame += struct.pack(">4sII", b"Xing", 1, n_frames)
    return frame.ljust(kind.sizes[third], b"\0")


def _corrected(frame: bytes, kind: Kind, n_frames: int, n_bytes: int) -> bytes:
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
