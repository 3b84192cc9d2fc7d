"""Writing the stems of one song: all of them complete under their names, or none."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

import numpy as np

from danna_sep.audio.encode import encode
from danna_sep.audio.formats import check_output
from danna_sep.audio.info import Block, Warn
from danna_sep.audio.publish import hidden_name, publish, raising_write_failed
from danna_sep.audio.wav import wav_header
from danna_sep.errors import OutputCollision, OutputExists, WriteFailed

logger = logging.getLogger(__name__)

# Lossy formats do not give back the samples they were given: around a full-scale peak a decoder overshoots, and one
# that makes integers then clips. A decibel below full scale is the usual remedy (as in EBU R 128's true-peak limit).
_LOSSY_CEILING: Final = 10 ** (-1 / 20)


@dataclass(frozen=True)
class WriteReport:
    """What was written.

    Attributes:
        gain: The one factor that was put on all stems; 1.0 unless a format with a full scale would have clipped.
        peak: Largest absolute sample of all stems before the gain; full scale is 1.0.
        clipped: Samples that took another code than the nearest. Only exactly +1.0 can, by one step.
        n_frames: Frames of every stem.
    """

    gain: float
    peak: float
    clipped: int
    n_frames: int


@dataclass
class _Stem:
    """One stem on its way: float32 samples in a hidden file beside the place where the result will be."""

    final: Path
    part: Path
    file: BinaryIO
    n_frames: int = 0
    peak: float = 0.0


class StemWriter:
    """Writes the stems of one song. A context manager: leaving it without `commit` leaves nothing behind.

    Samples are spooled as float32 into hidden files in the destination folder. `commit` encodes them, when the peak
    over all stems is known, and renames all. Float WAV needs no encoding: the spool is the result. Any format takes
    any number of frames; WAV becomes RF64 where its size would exceed 4 GiB.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        *,
        sample_rate: int,
        n_channels: int,
        n_frames: int | None = None,
        format: str = "wav",
        bits: str = "float",
        overwrite: bool = False,
        warn: Warn = logger.warning,
    ) -> None:
        """Check everything that can be checked before any work is done.

        Args:
            paths: Where each stem goes.
            sample_rate: Hz.
            n_channels: Channels of each stem.
            n_frames: Frames to come, if known: then there must be room for them on the disk. Fewer or more may come.
            format: "wav", "flac", "mp3" or "ogg".
            bits: "16", "24" or "float"; "float" for mp3 and ogg. `resolve_bits` makes it from "auto".
            overwrite: Replace files that exist.
            warn: Called with one line if a gain was needed.

        Raises:
            ConfigError: The format cannot hold this.
            OutputCollision: Two stems under one name.
            OutputExists: A file is in the way.
        """
        check_output(format, bits, sample_rate, n_channels)
        if len(set(paths.values())) != len(paths):
            raise OutputCollision(f"{next(iter(paths.values()))}: more than one stem would be written to it")
        self._paths = dict(paths)
        self._sample_rate = sample_rate
        self._n_channels = n_channels
        self._n_frames = n_frames
        self._format = format
        self._bits = bits
        self._overwrite = overwrite
        self._warn = warn
        self._stems: dict[str, _Stem] = {}
        self._parts: list[Path] = []  # every hidden file that exists now
        self._folders: list[Path] = []  # every folder that was made
        self._is_float_wav = format == "wav" and bits == "float"
        self._check_finals()

    def __enter__(self) -> StemWriter:
        """Make folders and temporary files.

        Raises:
            WriteFailed: The folder cannot be written, or the disk is too small.
        """
        try:
            for stem, final in self._paths.items():
                with raising_write_failed(final):
                    self._make_folder(final.parent)
                    part, file = self._open_part(final)
                    self._stems[stem] = _Stem(final, part, file)
                    if self._is_float_wav:
                        file.write(self._header(0))
            self._check_space()
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._discard()

    def write(self, blocks: Mapping[str, Block]) -> None:
        """Append samples.

        Args:
            blocks: Samples (channel, time) for stems; by the time of `commit` all stems must have equally many.

        Raises:
            WriteFailed: The disk is full or not there any more, or samples are NaN or infinite.
        """
        for name, block in blocks.items():
            stem = self._stems[name]
            if block.ndim != 2 or block.shape[0] != self._n_channels:
                raise ValueError(f"{name}: expected ({self._n_channels} channels, time), got {block.shape}")
            if not block.shape[1]:
                continue
            peak = float(np.abs(block).max())
            if not math.isfinite(peak):
                raise WriteFailed(
                    f"{stem.final}: separation gave NaN or infinite samples after "
                    f"{stem.n_frames / self._sample_rate:.3f} s; nothing was written; try another device or precision"
                )
            with raising_write_failed(stem.final):
                stem.file.write(np.ascontiguousarray(block.T, dtype="<f4").data)
            stem.peak = max(stem.peak, peak)
            stem.n_frames += block.shape[1]

    def commit(self) -> WriteReport:
        """Finish all files and let them appear under their names.

        Raises:
            OutputExists: A file has come in the way since.
            WriteFailed: Anything else; then none of the files has appeared.
        """
        lengths = {stem.n_frames for stem in self._stems.values()}
        if len(lengths) != 1:
            counts = ", ".join(f"{name} {stem.n_frames}" for name, stem in self._stems.items())
            raise WriteFailed(f"{self._where()}: stems differ in length ({counts or 'none was opened'})")
        peak = max(stem.peak for stem in self._stems.values())
        gain = self._gain(peak)
        clipped = sum(self._finish(stem, gain) for stem in self._stems.values())
        self._check_finals()
        publish({stem.part: stem.final for stem in self._stems.values()})
        self._parts.clear()
        self._folders.clear()
        if gain != 1.0:
            self._warn(
                f"{self._where()}: the loudest stem peaks {20 * math.log10(peak):+.2f} dB from full scale; "
                f"all stems were written with {20 * math.log10(gain):.2f} dB of gain so that none clips "
                "(--format wav --bits float needs none)"
            )
        return WriteReport(gain, peak, clipped, lengths.pop())

    def _gain(self, peak: float) -> float:
        """The one factor for all stems that makes the loudest just fit."""
        if self._is_float_wav:
            return 1.0
        if self._format in ("mp3", "ogg"):
            return _LOSSY_CEILING / peak if peak > _LOSSY_CEILING else 1.0
        return (1 - 2.0 ** (1 - int(self._bits))) / peak if peak > 1.0 else 1.0

    def _finish(self, stem: _Stem, gain: float) -> int:
        """Turn a stem's spool into its final content, still hidden. Returns the number of clipped samples."""
        with raising_write_failed(stem.final):
            if self._is_float_wav:
                stem.file.seek(0)
                stem.file.write(self._header(stem.n_frames))
                stem.file.close()
                return 0
            stem.file.seek(0)
            part, target = self._open_part(stem.final)
            with target:
                clipped = encode(
                    stem.file,
                    target,
                    format=self._format,
                    bits=self._bits,
                    sample_rate=self._sample_rate,
                    n_channels=self._n_channels,
                    n_frames=stem.n_frames,
                    gain=gain,
                )
            stem.file.close()
            self._remove_part(stem.part)  # now, not at the end: it may be the space the next stem needs
            stem.part = part
            return clipped

    def _header(self, n_frames: int) -> bytes:
        return wav_header(self._sample_rate, self._n_channels, self._bits, n_frames)

    def _check_finals(self) -> None:
        for final in self._paths.values():
            with raising_write_failed(final):
                if final.is_dir():
                    raise OutputExists(f"{final}: is a folder; choose another --name-template or remove it")
                if os.path.lexists(final) and not self._overwrite:
                    raise OutputExists(f"{final}: exists already; --overwrite replaces it")

    def _check_space(self) -> None:
        """Fail now rather than after hours, if the disk cannot hold what is announced."""
        if self._n_frames is None:
            return
        spool_bytes = self._n_frames * self._n_channels * 4
        needed: dict[int, int] = {}
        for stem in self._stems.values():
            with raising_write_failed(stem.final):
                device = stem.part.stat().st_dev
                needed[device] = needed.get(device, 0) + spool_bytes
                usage = shutil.disk_usage(stem.part.parent)
            # One stem at a time is encoded beside the spools.
            most = needed[device] + (0 if self._is_float_wav else spool_bytes)
            if usage.total and most > usage.free:  # some network file systems tell nothing
                raise WriteFailed(
                    f"{stem.final.parent}: not enough space: about {most / 1e9:.2f} GB are needed for now, "
                    f"{usage.free / 1e9:.2f} GB are free; free some or choose another folder"
                )

    def _make_folder(self, folder: Path) -> None:
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for made in reversed(missing):
            made.mkdir(exist_ok=True)
            self._folders.append(made)

    def _open_part(self, final: Path) -> tuple[Path, BinaryIO]:
        part = hidden_name(final)
        file = part.open("xb+")
        self._parts.append(part)
        return part, file

    def _remove_part(self, part: Path) -> None:
        part.unlink()
        self._parts.remove(part)

    def _discard(self) -> None:
        for stem in self._stems.values():
            with contextlib.suppress(OSError):  # what could not be written cannot be flushed either
                stem.file.close()
        for part in self._parts:
            with contextlib.suppress(OSError):
                part.unlink()
        for folder in reversed(self._folders):
            with contextlib.suppress(OSError):  # not empty: something else is in it
                folder.rmdir()
        self._stems, self._parts, self._folders = {}, [], []

    def _where(self) -> str:
        return str(next(iter(self._paths.values())).parent) if self._paths else "output"
