"""Decoding with FFmpeg's libraries through PyAV, for what libsndfile does not read: M4A, AAC, video files."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from danna_sep.audio.cut_streams import cut_note
from danna_sep.audio.header import declared_frames
from danna_sep.audio.info import AudioInfo, Block, Samples
from danna_sep.errors import MissingExtra, UnreadableAudio
from danna_sep.extras import how_to_install

_GUESSED: Final = ("aac", "ac3", "eac3")
"""Formats that do not tell their length, which FFmpeg guesses from the size and the bit rate at the start."""

_DTYPES: Final = {"u8p": np.uint8, "s16p": np.int16, "s32p": np.int32, "fltp": np.float32, "dblp": np.float64}


class PyAvDecoder:
    """A `Decoder` for an audio stream of any file that FFmpeg reads.

    Raises:
        MissingExtra: PyAV is not installed.
        UnreadableAudio: No such audio stream, or nothing that can be decoded in it.
    """

    def __init__(self, path: Path, stream: int = 0) -> None:
        try:
            import av
        except ImportError as error:
            raise MissingExtra(f"{path}: this format needs PyAV; install with `{how_to_install('av')}`") from error
        self.notes: list[str] = []
        self._is_damaged = False
        self._path = path
        self._error: type[Exception] = av.error.FFmpegError
        self._container: Any = None
        self._file = path.open("rb")
        try:
            self._container = self._open(av)
            streams = self._container.streams.audio
            if not streams:
                raise UnreadableAudio(f"{path}: has no audio stream; give a file with sound in it")
            if stream >= len(streams):
                raise UnreadableAudio(f"{path}: has only {len(streams)} audio streams, not {stream + 1}")
            self._stream = streams[stream]
            self._frames = self._decode()
            # Decoded first, asked then: the header of an HE-AAC file tells half of its real rate.
            self._pending = next(self._frames, None)
            if self._pending is None:
                raise UnreadableAudio(f"{path}: has no samples that can be decoded; the file may be damaged")
            first = self._pending
            self._first_pts = first.pts or 0
            self.info = AudioInfo(
                path,
                first.sample_rate,
                len(first.layout.channels),
                self._declared(first.sample_rate),
                _container_name(path, self._container.format.name),
                _subtype(self._stream.codec_context.name, first.format.name),
            )
            self.declared_frames, self.tolerance_frames = self._claim()
            if note := cut_note(path, self._container.format.name):
                self.notes.append(note)
            self._rest: Block = _samples(first)
            self._n_decoded = first.samples
        except BaseException:
            self.close()
            raise

    def read(self, n_frames: int) -> Block:
        """The next 1 to n_frames frames, (channel, time); no frames at the end."""
        while not self._rest.shape[1]:
            frame = next(self._frames, None)
            if frame is None:
                return self._rest
            if frame.sample_rate != self.info.sample_rate or len(frame.layout.channels) != self.info.n_channels:
                raise UnreadableAudio(
                    f"{self._path}: sample rate or channels change at "
                    f"{self._n_decoded / self.info.sample_rate:.3f} s; convert it to one rate first"
                )
            self._rest = _samples(frame)
            self._n_decoded += frame.samples
        block, self._rest = self._rest[:, :n_frames], self._rest[:, n_frames:]
        return block

    def seek(self, frame: int) -> None:
        """Go on reading at a frame; behind the end at the end."""
        rate, tick = self.info.sample_rate, self._stream.time_base
        # A little before, for decoders that need what came before; what is too early is dropped.
        target = self._first_pts + int(max(0, frame - rate // 4) / rate / tick)
        self._container.seek(target, stream=self._stream)
        self._frames = self._decode()
        empty = self._rest[:, :0]
        for decoded in self._frames:
            first = round((decoded.pts - self._first_pts) * tick * rate)
            if first + decoded.samples > frame:
                self._rest = _samples(decoded)[:, max(0, frame - first) :]
                return
        self._rest = empty

    def close(self) -> None:
        """Let go of the file."""
        if self._container is not None:
            self._container.close()
        self._file.close()

    def _open(self, av: Any) -> Any:
        try:
            # The whitelist: no file may make FFmpeg fetch others, as playlists do.
            return av.open(self._file, mode="r", options={"protocol_whitelist": "file"}, metadata_errors="replace")
        except (self._error, OSError, ValueError) as error:
            raise UnreadableAudio(
                f"{self._path}: not audio that can be read ({_reason(error)}); convert it to WAV or FLAC first"
            ) from error

    def _decode(self) -> Iterator[Any]:
        """Frames of the stream; packets that do not decode are left out, and noted."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                frames = packet.decode()
            except self._error as error:
                if not self._is_damaged:
                    self._is_damaged = True
                    self.notes.append(f"damaged ({_reason(error)})")
                if isinstance(error, EOFError) or (isinstance(error, OSError) and error.errno == errno.EIO):
                    return
                continue
            for frame in frames:
                if frame.samples:
                    yield frame

    def _declared(self, sample_rate: int) -> int | None:
        if self._stream.duration is None or self._stream.time_base is None:
            return None
        return round(self._stream.duration * self._stream.time_base * sample_rate) or None

    def _claim(self) -> tuple[int | None, int]:
        """Frames that the file declares, and how many it may be wrong by."""
        rate = self.info.sample_rate
        if self.info.container == "CAF" and (exact := declared_frames(self._path)) is not None:
            return exact, 0  # libsndfile refuses a file that is cut, and FFmpeg counts what there is
        if self._container.format.name in _GUESSED:
            return None, 0
        if self.info.n_frames is not None:
            return self.info.n_frames, rate // 10
        # Matroska tells when the last stream ends, and in tags, if written, when each does.
        end_s = _seconds(self._stream.metadata)
        if end_s is None and len(self._container.streams) == 1 and self._container.duration is not None:
            end_s = self._container.duration / 1e6
        if end_s is None:
            return None, 0
        # For FFmpeg that is the time of the end, for mkvmerge the length, which a late start makes no shorter.
        n_late = round(self._first_pts * self._stream.time_base * rate)
        return max(0, round(end_s * rate) - n_late), rate + max(0, n_late)


def _seconds(metadata: dict[str, str]) -> float | None:
    """What the tag DURATION says, such as 00:03:25.160000000.

    Where a language follows the name, it may be of a file that this one was cut from: FFmpeg carries that over.
    """
    found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", metadata.get("DURATION", ""))
    if found is None:
        return None
    hours, minutes, seconds = found.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _samples(frame: Any) -> Block:
    """A frame's samples as float32 (channel, time), integers scaled to full scale 1.0."""
    array: Samples
    n_channels = len(frame.layout.channels)
    if frame.format.is_planar:
        # Not to_ndarray(), which crashes from eight channels on: PyAV (18) sees more planes than there are.
        dtype = _DTYPES[frame.format.name]
        array = np.stack([np.frombuffer(plane, dtype, frame.samples) for plane in frame.planes[:n_channels]])
    else:
        array = frame.to_ndarray().reshape(-1, n_channels).T
    if array.dtype == np.uint8:
        return np.ascontiguousarray((array.astype(np.float32) - 128) / 128)
    if np.issubdtype(array.dtype, np.integer):
        full_scale = -float(np.iinfo(array.dtype).min)  # type: ignore[type-var]
        return np.ascontiguousarray((array / full_scale).astype(np.float32))
    with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, and is reported as such
        return np.ascontiguousarray(array, dtype=np.float32)


def _container_name(path: Path, names: str) -> str:
    """One of FFmpeg's comma-separated names, the one the file carries if it does."""
    suffix = path.suffix.lower().lstrip(".")
    return (suffix if suffix in names.split(",") else names.split(",")[0]).upper()


def _subtype(codec: str, sample_format: str) -> str:
    """The coding in libsndfile's manner: with its width where it is lossless."""
    width = {"u8": "8", "s16": "16", "s32": "24", "flt": "FLOAT", "dbl": "DOUBLE"}.get(sample_format.rstrip("p"), "")
    if codec.startswith("pcm_"):
        return width if width in ("FLOAT", "DOUBLE") else f"PCM_{'16' if width == '8' else width}"
    if codec == "alac":
        return f"ALAC_{width}"
    if codec in ("flac", "wavpack", "tta", "ape", "truehd", "mlp") and width in ("16", "24"):
        return f"PCM_{width}"
    return codec.upper()


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(". ")
