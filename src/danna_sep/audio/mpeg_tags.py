"""Tags in front of, between and behind MPEG audio, which are no frames."""

from __future__ import annotations

import mmap
from typing import Final

_ID3V1_BYTES: Final = 128
_APE_BYTES: Final = 32  # of the footer, and of the header
_APE_HAS_HEADER: Final = 1 << 31
_MUSICMATCH: Final = b"18273645"  # begins the header and the version
_MUSICMATCH_BYTES: Final = 8700  # from the version to the end, at most
_MUSICMATCH_FOOTER_BYTES: Final = 48
_LYRICS_BYTES: Final = 5120  # the longest text of Lyrics3 1.0, and what stands around it


def behind_tags(data: mmap.mmap, position: int = 0) -> int:
    """The first byte behind any tags that begin at a position: ID3v2, or APE and ID3v1 of a part that ends there."""
    while True:
        head = data[position : position + _APE_BYTES]
        if head.startswith(b"ID3") and len(head) >= 10:
            size = 0
            for byte in head[6:10]:
                size = size << 7 | byte & 0x7F
            position += 10 + size + (10 if head[5] & 0x10 else 0)
        elif head.startswith(b"APETAGEX") and len(head) == _APE_BYTES:
            position += _APE_BYTES + int.from_bytes(head[12:16], "little")
        elif head.startswith(b"TAG"):
            position += _ID3V1_BYTES
        else:
            return min(position, len(data))


def untagged_end(data: mmap.mmap, position: int) -> int:
    """Where the file ends but for ID3v1, APE, Lyrics3 and MusicMatch tags, which begin at a position or behind it."""
    end = len(data)
    while 0 < (size := tag_bytes(data, end)) <= end - position:
        end -= size
    return end


def tag_bytes(data: mmap.mmap | bytes, end: int) -> int:
    """The length of a tag that ends there, 0 if none does."""
    if end >= _ID3V1_BYTES and data[end - _ID3V1_BYTES : end - _ID3V1_BYTES + 3] == b"TAG":
        return _ID3V1_BYTES
    footer = data[max(0, end - _APE_BYTES) : end]
    if footer.startswith(b"APETAGEX") and len(footer) == _APE_BYTES:
        size, flags = (int.from_bytes(footer[place : place + 4], "little") for place in (12, 20))
        return size + (_APE_BYTES if flags & _APE_HAS_HEADER else 0)
    digits = footer[-15:-9]
    if footer.endswith(b"LYRICS200") and digits.isdigit():
        return int(digits) + 15
    if footer.endswith(b"LYRICSEND"):
        begin = data.rfind(b"LYRICSBEGIN", max(0, end - _LYRICS_BYTES), end)
        return end - begin if begin >= 0 else 0
    if b"Brava Software Inc." in data[max(0, end - _MUSICMATCH_FOOTER_BYTES) : end]:
        return _musicmatch_bytes(data, end)
    return 0


def _musicmatch_bytes(data: mmap.mmap | bytes, end: int) -> int:
    """The length of a MusicMatch tag: a header or none, an image, the version, texts, where each begins, a footer."""
    version = data.rfind(_MUSICMATCH, max(0, end - _MUSICMATCH_BYTES), end)
    offsets = end - _MUSICMATCH_FOOTER_BYTES - 20
    if version < 0 or offsets < version:
        return 0
    image_offset, version_offset = (int.from_bytes(data[at : at + 4], "little") for at in (offsets, offsets + 12))
    begin = version - max(0, version_offset - image_offset)
    if data[max(0, begin - 256) : begin].startswith(_MUSICMATCH):
        begin -= 256
    return end - begin
