"""Decoding with libsndfile."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

from danna_sep.audio.channel_order import vorbis_to_wav
from danna_sep.audio.header import declared_frames, uncounted_bytes
from danna_sep.audio.info import AudioInfo, Block
from danna_sep.audio.mpeg import repaired_mp3
from danna_sep.audio.ogg import has_speakers, ogg_note
from danna_sep.errors import UnreadableAudio

# An MPEG decoder throws away all it decoded within a call that meets a damaged place: ask for little at a time.
_MPEG_READ_FRAMES: Final = 1152
_UNKNOWN_FRAMES: Final = 1 << 60  # libsndfile's "very many" for streams of unknown length
_MAX_FAILURES: Final = 64  # reads without progress, one after the other, before the rest is given up


class _ForwardSoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """Does not seek after each read, as soundfile does: damaged files lose their place by it."""

    def seekable(self) -> bool:
        return False


class SoundFileDecoder:
    """A `Decoder` for what libsndfile reads.

    Raises:
        soundfile.LibsndfileError: libsndfile does not read the file.
        UnreadableAudio: A WAV header whose size has wrapped, or was never written.
    """

    def __init__(self, path: Path) -> None:
        self.notes: list[str] = []
        self.tolerance_frames = 0
        self._stream = None
        repaired = repaired_mp3(path)
        if repaired is not None:
            self._stream, note = repaired
            if note:
                self.notes.append(note)
        try:
            self._file: Any = _ForwardSoundFile(self._stream if self._stream is not None else _native_name(path), "r")
        except BaseException:
            if self._stream is not None:
                self._stream.close()
            raise
        frames = self._file.frames
        known = frames if 0 <= frames < _UNKNOWN_FRAMES else None
        self._is_mpeg = self._file.subtype.startswith("MPEG")
        self._position = 0
        n_channels = self._file.channels
        self._order: tuple[int, ...] | None = None
        self.info = AudioInfo(path, self._file.samplerate, n_channels, known, self._file.format, self._file.subtype)
        try:
            if self._file.format == "OGG":
                self._order = vorbis_to_wav(n_channels) if has_speakers(path) else None
                if note := ogg_note(path):
                    self.notes.append(note)
            declared = declared_frames(path)
            self._note_uncounted(path)
        except BaseException:
            self.close()
            raise
        self.declared_frames = known if declared is None else declared

    def read(self, n_frames: int) -> Block:
        """The next 1 to n_frames frames, (channel, time); no frames at the end."""
        if self._is_mpeg:
            n_frames = min(n_frames, _MPEG_READ_FRAMES)
        if self.info.n_frames is not None:
            n_frames = min(n_frames, self.info.n_frames - self._position)
        out = np.empty((max(n_frames, 0), self.info.n_channels), dtype=np.float32)
        for _ in range(_MAX_FAILURES if n_frames > 0 else 0):
            try:
                n_read = len(self._file.read(n_frames, dtype="float32", out=out))
            except soundfile.LibsndfileError as error:
                # What came before the damage is in `out`, and the position has moved by it.
                n_read = self._file.tell() - self._position
                note = f"damaged at {self._position / self.info.sample_rate:.3f} s ({_reason(error)})"
                if not self.notes:
                    self.notes.append(note)
            else:
                if not n_read:
                    break
            if n_read:
                self._position += n_read
                block = out[:n_read] if self._order is None else out[:n_read, self._order]
                return np.ascontiguousarray(block.T)
        return np.empty((self.info.n_channels, 0), dtype=np.float32)

    def seek(self, frame: int) -> None:
        """Go on reading at a frame; behind the end, where known, at the end.

        Raises:
            UnreadableAudio: The file is one that can only be read from its start.
        """
        if self.info.n_frames is not None:
            frame = min(frame, self.info.n_frames)
        try:
            self._position = self._file.seek(frame)
        except soundfile.LibsndfileError as error:
            raise UnreadableAudio(
                f"{self.info.path}: cannot be read from its middle ({_reason(error)}); convert it to WAV or FLAC first"
            ) from error

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        if self._stream is not None:
            self._stream.close()

    def _note_uncounted(self, path: Path) -> None:
        n_bytes = uncounted_bytes(path)
        if not n_bytes:
            return
        if self.info.n_frames == 0:
            raise UnreadableAudio(
                f"{path}: its header was never completed: it counts no samples, but {n_bytes} bytes follow; "
                "repair it with the program that recorded it, or import it as raw data into an editor"
            )
        self.notes.append(
            f"the {n_bytes} bytes behind the audio that its header counts are left out; "
            "if they are audio, too, repair the header or import the file as raw data into an editor first"
        )


def _native_name(path: Path) -> str | bytes:
    # Absolute, because libsndfile takes "-" for standard input; bytes, because names need not be Unicode.
    name = os.path.abspath(path)  # noqa: PTH100  (resolve() would follow links)
    return name if sys.platform == "win32" else os.fsencode(name)


def _reason(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).rstrip(". ") or "the decoder failed"
