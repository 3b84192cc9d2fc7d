"""Reading: what a file is, and its samples in blocks."""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np
import soundfile

from danna_sep.audio.info import MAX_RATE_HZ, MIN_RATE_HZ, AudioInfo, Block, Decoder, Warn
from danna_sep.audio.pyav import PyAvDecoder
from danna_sep.audio.sndfile import SoundFileDecoder
from danna_sep.errors import MissingExtra, NonFiniteAudio, UnreadableAudio, UnsupportedRate

logger = logging.getLogger(__name__)

# Starts of formats that only FFmpeg reads, and of those that libsndfile usually, but not always, does.
# Text formats (playlists) are left out on purpose: they can name other files.
_FFMPEG_ONLY: Final = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\x30\x26\xb2\x75",  # ASF, WMA
    b"FLV\x01",
    b"wvpk",
    b"MAC ",
    b"TTA1",
    b"MPCK",
    b"MP+",
    b"\x0b\x77",  # AC-3
    b"#!AMR",
    b"\x00\x00\x01\xba",  # MPEG program stream
)
_LIBSNDFILE_OR_FFMPEG: Final = (b"RIFF", b"RF64", b"FORM", b"caff", b"OggS", b"fLaC", b"ID3")
_MP4_BOXES: Final = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def probe(path: Path | str, *, stream: int = 0) -> AudioInfo:
    """Tell what an audio file is, without decoding it.

    WAV, RF64, W64, AIFF, CAF, FLAC, MP3, Ogg Vorbis, Opus and more are read by libsndfile; M4A, AAC and the first
    audio stream of video files by PyAV, if installed.

    Args:
        path: The file.
        stream: Which of a file's audio streams; files that libsndfile reads have one.

    Raises:
        UnreadableAudio: Missing, a folder, empty, not audio, no audio stream, or no samples.
        MissingExtra: Readable with PyAV only, which is not installed.
        UnsupportedRate: Sample rate outside 8 to 192 kHz.
    """
    decoder = _open(Path(path), stream)
    decoder.close()
    return decoder.info


class AudioReader:
    """Decodes one file from first to last, a block at a time, in flat memory. A context manager.

    Attributes:
        info: What the file is.
        n_read: Frames given so far; after the last block, the file's real length.
    """

    def __init__(self, path: Path | str, *, stream: int = 0, repair: bool = False, warn: Warn = logger.warning) -> None:
        """Open the file.

        Args:
            path: The file.
            stream: As for `probe`.
            repair: Put zeros in the place of NaN and infinite samples, and warn, instead of refusing them.
            warn: Called with one line for each thing that is wrong but was coped with.

        Raises:
            UnreadableAudio, MissingExtra, UnsupportedRate: As `probe`.
        """
        self.n_read = 0
        self._repair = repair
        self._warn = warn
        self._decoder = _open(Path(path), stream)
        self.info = self._decoder.info
        self._started = False
        self._from_start = True

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._decoder.close()

    def seek(self, frame: int) -> None:
        """Have `blocks` begin at a frame; behind the end there are none."""
        if self._started:
            raise ValueError("blocks have been read; open the file again")
        self._decoder.seek(frame)
        self._from_start = False

    def blocks(self, n_frames: int) -> Iterator[Block]:
        """Give all samples, once.

        Args:
            n_frames: Frames of every block but the last, which may be shorter.

        Yields:
            Samples (channel, time), float32; integer formats have full scale 1.0, and float samples above it are
            given as they are.

        Raises:
            NonFiniteAudio: NaN or infinite samples, and `repair` is off.
            UnreadableAudio: The file turns out to have no samples, or changes its sample rate or channels midway.
        """
        if n_frames < 1:
            raise ValueError(f"a block has at least one frame, not {n_frames}")
        if self._started:
            raise ValueError("blocks can be read once; open the file again")
        self._started = True
        return self._blocks(n_frames)

    def _blocks(self, n_frames: int) -> Iterator[Block]:
        n_repaired = 0
        while True:
            block = self._fill(n_frames)
            if not block.shape[1]:
                break
            n_repaired += self._check_finite(block)
            self.n_read += block.shape[1]
            yield block
        if not self.n_read and self._from_start:
            raise UnreadableAudio(f"{self.info.path}: has no samples that can be decoded; the file may be damaged")
        if n_repaired:
            self._warn(f"{self.info.path}: replaced {n_repaired} NaN or infinite samples by zero")
        self._report_damage()

    def _fill(self, n_frames: int) -> Block:
        """Put together what the decoder gives in pieces of its own size."""
        pieces: list[Block] = []
        n_missing = n_frames
        while n_missing:
            piece = self._decoder.read(n_missing)
            pieces.append(piece)
            n_missing -= piece.shape[1]
            if not piece.shape[1]:
                break
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)

    def _check_finite(self, block: Block) -> int:
        finite = np.isfinite(block)
        if finite.all():
            return 0
        if not self._repair:
            first = self.n_read + int(np.argmin(finite.all(axis=0)))
            raise NonFiniteAudio(
                f"{self.info.path}: NaN or infinite sample at {first / self.info.sample_rate:.6f} s; "
                "mend the file (`separate --repair` puts zeros in the place of such samples)"
            )
        block[~finite] = 0.0
        return int(finite.size - np.count_nonzero(finite))

    def _report_damage(self) -> None:
        problems = list(self._decoder.notes)
        declared = self._decoder.declared_frames
        if self._from_start and declared is not None and abs(declared - self.n_read) > self._decoder.tolerance_frames:
            problems.append(f"the file declares {declared} frames, but {self.n_read} could be decoded")
        elif problems:
            problems.append(f"{self.n_read} frames could be decoded")
        if problems:
            self._warn(f"{self.info.path}: {'; '.join(problems)}")


def _open(path: Path, stream: int) -> Decoder:
    decoder = _decoder(path, stream)
    try:
        _check(decoder.info)
    except BaseException:
        decoder.close()
        raise
    return decoder


def _check(info: AudioInfo) -> None:
    if info.container == "RAW":
        # libsndfile believes endings such as .vox and .gsm, whatever is in the file.
        raise UnreadableAudio(f"{info.path}: has no header that tells what it is; convert it to WAV or FLAC first")
    if info.n_frames == 0:
        raise UnreadableAudio(f"{info.path}: has no samples; give a file with sound in it")
    if not MIN_RATE_HZ <= info.sample_rate <= MAX_RATE_HZ:
        raise UnsupportedRate(
            f"{info.path}: sample rate {info.sample_rate} Hz is outside {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz; "
            "convert it to 44100 Hz first"
        )


def _decoder(path: Path, stream: int) -> Decoder:
    head = _head(path)
    try:
        decoder = SoundFileDecoder(path)
        if stream:
            decoder.close()
            raise UnreadableAudio(f"{path}: has only one audio stream, not {stream + 1}")
        return decoder
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: soundfile, for an ending of .raw
        reason = str(getattr(error, "error_string", "")).rstrip(". ")
        if not reason or "does not exist" in reason:  # what libsndfile says of an .mp3 that is none
            reason = "unknown format"
    if head.startswith(_FFMPEG_ONLY) or head[4:8] in _MP4_BOXES or _is_adts(head) or _is_transport_stream(head):
        return PyAvDecoder(path, stream)
    if head.startswith(_LIBSNDFILE_OR_FFMPEG) or _is_mpeg_audio(head):
        try:
            return PyAvDecoder(path, stream)
        except MissingExtra:
            pass
    raise UnreadableAudio(f"{path}: not audio that can be read ({reason}); convert it to WAV or FLAC first")


def _head(path: Path) -> bytes:
    """The file's first bytes; refuses what is no readable, regular file with something in it."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableAudio(f"{path}: is a folder; give the audio files in it")
        if not stat.S_ISREG(mode):
            raise UnreadableAudio(f"{path}: is not a regular file; save the audio to a file first")
        with path.open("rb") as file:
            head = file.read(192)
    except FileNotFoundError:
        raise UnreadableAudio(f"{path}: no such file; check the name") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableAudio(f"{path}: cannot be opened ({reason}); check the name and its permissions") from error
    if not head:
        raise UnreadableAudio(f"{path}: the file is empty; copy or download it again")
    return head


def _is_adts(head: bytes) -> bool:
    """Plain AAC: twelve ones, and layer 0, which no MPEG audio layer has."""
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0


def _is_mpeg_audio(head: bytes) -> bool:
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0


def _is_transport_stream(head: bytes) -> bool:
    return len(head) > 188 and head[0] == head[188] == 0x47
