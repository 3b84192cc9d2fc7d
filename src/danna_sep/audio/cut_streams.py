"""Streams that nowhere tell their length: that one is cut shows in its last frame or packet, which is then not whole.

A cut hardly ever falls between two of them; where it does, nothing tells.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final

_AC3_SYNC: Final = b"\x0b\x77"
_AC3_HEAD_BYTES: Final = 6
_AC3_KBIT_S: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_MAX_AC3_BSID, _MAX_EAC3_BSID = 10, 16  # versions of the syntax
_PACKET_BYTES: Final = 188  # of a transport stream
_PACKET_SYNC: Final = 0x47


def cut_note(path: Path, format_name: str) -> str:
    """That a stream is cut, in words; empty if nothing tells so.

    Args:
        path: The file.
        format_name: FFmpeg's name of its format.
    """
    with path.open("rb", buffering=0) as file:
        if format_name in ("ac3", "eac3") and _ends_in_a_part_of_an_ac3_frame(file):
            piece = "frame"
        elif format_name == "mpegts" and _ends_in_a_part_of_a_packet(file):
            piece = "packet"
        else:
            return ""
    return f"the last {piece} is not whole, so that the file may be cut short; copy or download it again"


def _ends_in_a_part_of_an_ac3_frame(file: BinaryIO) -> bool:
    """False also where frames do not follow one another from the start: the decoder tells of that."""
    file_size = os.fstat(file.fileno()).st_size
    position = 0
    while position < file_size:
        file.seek(position)
        head = file.read(_AC3_HEAD_BYTES)
        if len(head) < _AC3_HEAD_BYTES:
            return _AC3_SYNC.startswith(head[:2])
        n_bytes = _ac3_frame_bytes(head)
        if n_bytes is None:
            return False
        position += n_bytes
    return position > file_size


def _ac3_frame_bytes(head: bytes) -> int | None:
    """Length of the frame of AC-3 or Enhanced AC-3 that begins so, None if none does.

    Reference: ETSI TS 102 366, 4.4.1 (table 4.13) and E.1.3.1.
    """
    version = head[5] >> 3
    if not head.startswith(_AC3_SYNC) or version > _MAX_EAC3_BSID:
        return None
    if version > _MAX_AC3_BSID:
        return 2 * (((head[2] & 7) << 8 | head[3]) + 1)
    rate_index, size_index = head[4] >> 6, head[4] & 0x3F
    if rate_index == 3 or size_index >= 2 * len(_AC3_KBIT_S):
        return None
    kbit_s = _AC3_KBIT_S[size_index // 2]
    return 2 * (2 * kbit_s, 320 * kbit_s // 147 + size_index % 2, 3 * kbit_s)[rate_index]  # 48, 44.1, 32 kHz


def _ends_in_a_part_of_a_packet(file: BinaryIO) -> bool:
    file_size = os.fstat(file.fileno()).st_size
    n_left = file_size % _PACKET_BYTES
    if not n_left or n_left == file_size:
        return False
    file.seek(file_size - n_left - _PACKET_BYTES)
    tail = file.read(_PACKET_BYTES + 1)
    return tail[0] == tail[-1] == _PACKET_SYNC
