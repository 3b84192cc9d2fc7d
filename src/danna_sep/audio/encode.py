"""From a spool of float32 samples to a finished file in any format but float WAV."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import numpy as np
import soundfile

from danna_sep.audio.channel_order import wav_to_vorbis
from danna_sep.audio.info import Block, Samples
from danna_sep.audio.wav import to_bytes, to_integers, wav_header
from danna_sep.errors import WriteFailed

# Small on purpose: libsndfile's Vorbis encoder takes stack in proportion to what it is given at once.
_BLOCK_FRAMES: Final = 8192

# name in libsndfile, subtype by bits, compression level 0..1, bit rate mode
_LIBSNDFILE: Final[dict[str, tuple[str, dict[str, str], float | None, str | None]]] = {
    "flac": ("FLAC", {"16": "PCM_16", "24": "PCM_24"}, None, None),
    "mp3": ("MP3", {"float": "MPEG_LAYER_III"}, 0.0, "VARIABLE"),  # LAME's best variable rate
    "ogg": ("OGG", {"float": "VORBIS"}, 0.2, None),  # quality 8 of 10
}


def encode(
    spool: BinaryIO,
    target: BinaryIO,
    *,
    format: str,
    bits: str,
    sample_rate: int,
    n_channels: int,
    n_frames: int,
    gain: float,
) -> int:
    """Encode samples.

    Args:
        spool: float32 samples, interleaved, channels in WAV order, from its current position on.
        target: An empty file that can be read and sought.
        format: "wav", "flac", "mp3" or "ogg".
        bits: As `check_output` allows.
        sample_rate: Hz.
        n_channels: Channels.
        n_frames: Frames in the spool.
        gain: Factor put on all samples.

    Returns:
        How many samples of an integer format had no code of their own (only +1.0 has none).

    Raises:
        OSError: The operating system did not take the bytes.
        WriteFailed: The encoder failed, or made a file of another length.
    """
    if format == "wav":
        return _encode_wav(spool, target, bits, sample_rate, n_channels, n_frames, gain)
    name, subtypes, level, mode = _LIBSNDFILE[format]
    tracked = _Tracked(target)
    n_clipped = 0
    order = wav_to_vorbis(n_channels) if format == "ogg" else None
    try:
        with soundfile.SoundFile(
            tracked, "w", sample_rate, n_channels, subtypes[bits],
            format=name, compression_level=level, bitrate_mode=mode,
        ) as file:  # fmt: skip
            for block in _spooled(spool, n_channels, n_frames):
                samples: Samples
                if bits == "float":
                    ordered = block if order is None else block[:, order]
                    samples = (ordered * np.float32(gain)).astype(np.float32)
                else:
                    codes, n = to_integers(block, bits, gain)
                    n_clipped += n
                    samples = codes.astype(np.int16) if bits == "16" else codes << 8
                file.write(samples)
                tracked.check()
    except (soundfile.SoundFileError, AssertionError) as error:
        # soundfile asserts that all was taken: for FLAC on a full disk, that is all one hears of it.
        tracked.check()
        raise WriteFailed(f"the {format} encoder failed ({error or 'not all samples were taken'})") from error
    tracked.check()
    target.flush()
    _verify(target, format, n_frames)
    return n_clipped


def _encode_wav(
    spool: BinaryIO, target: BinaryIO, bits: str, sample_rate: int, n_channels: int, n_frames: int, gain: float
) -> int:
    target.write(wav_header(sample_rate, n_channels, bits, n_frames))
    n_clipped = n_bytes = 0
    for block in _spooled(spool, n_channels, n_frames):
        codes, n = to_integers(block, bits, gain)
        n_clipped += n
        n_bytes += target.write(to_bytes(codes, bits))
    target.write(b"\0" * (n_bytes % 2))  # chunks have even lengths
    target.flush()
    return n_clipped


def _spooled(spool: BinaryIO, n_channels: int, n_frames: int) -> Iterator[Block]:
    """The spool's samples in blocks with axes (time, channel)."""
    while n_frames:
        n_block = min(n_frames, _BLOCK_FRAMES)
        data = spool.read(n_block * n_channels * 4)
        block: Block = np.frombuffer(data, dtype="<f4").reshape(-1, n_channels)
        if len(block) != n_block:
            raise WriteFailed("a temporary file was shortened by another program; try again")
        yield block
        n_frames -= n_block


def _verify(target: BinaryIO, format: str, n_frames: int) -> None:
    target.seek(0)
    try:
        with soundfile.SoundFile(target, "r") as file:
            n_found = file.frames
    except soundfile.SoundFileError as error:
        raise WriteFailed(f"the {format} file cannot be read back ({error})") from error
    if n_found != n_frames:
        raise WriteFailed(f"the {format} file has {n_found} frames instead of {n_frames}")


class _Tracked:
    """A file for libsndfile that keeps the first error, which libsndfile would not pass on."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: OSError | None = None

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self._error = self._error or error
            return 0

    def read(self, n_bytes: int) -> bytes:
        return self._file.read(n_bytes)

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError as error:  # seeking writes what is still buffered
            self._error = self._error or error
            return -1

    def tell(self) -> int:
        return self._file.tell()
