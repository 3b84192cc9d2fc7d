"""Separation from Python: arrays, tensors and files, whole or as a stream.

    from danna_sep import load, separate, separate_file

    stems = separate(mixture, 48000)                    # {"drums": ..., "bass": ..., ...}
    separate_file("song.mp3", "stems")                  # stems/song/drums.wav, ...
    separator = load("danna", device="cuda")            # once, for many songs
    for block in stream(mixture, 48000, separator): ...

All of it is one walk: blocks of audio are brought to stereo at the models' rate, separated segment by segment,
brought back to the input's rate and channels, and given away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from danna_sep import audio, loading
from danna_sep.errors import ConfigError, OutputCollision
from danna_sep.mixture_arrays import ArrayT, as_float32, check_samples, checked_rate
from danna_sep.options import DEFAULTS, Options
from danna_sep.pipeline import stems_of_blocks

if TYPE_CHECKING:
    from danna_sep.separators import Separator

_BLOCK_S = 1.0
"""Audio that is read at once."""


@dataclass(frozen=True)
class FileResult:
    """What became of a file.

    Attributes:
        stems: Where each stem was written.
        n_frames: Frames of each.
        gain: Factor applied to all of them so that none exceeds full scale in an integer format; else 1.
        warnings: What was said on the way.
    """

    stems: Mapping[str, Path]
    n_frames: int
    gain: float
    warnings: Sequence[str] = field(default_factory=tuple)


def load(preset: str | Path = "danna", options: Options = DEFAULTS, **changes: Any) -> Separator:
    """The separator that a preset names, for `separate`, `stream` and `separate_file`.

    Args:
        preset: A key of `danna_sep.presets.PRESETS`, the path of a preset file (it ends in .json), or the name of
            an installed separator.
        options: What it will be used for: stems, shifts, whole, device, precision.
        changes: Fields of Options to set otherwise.

    Raises:
        ConfigError: No such preset, stem, device or precision, or a preset file that cannot be used.
        WeightsError: Weights that are missing or damaged.
    """
    options = options.changed(changes)
    return loading.load(
        str(preset),
        sources=options.computed,
        shifts=options.shifts,
        whole=options.whole,
        device=resolve_device(options.device),
        precision=options.precision,
    )


def separate(
    mixture: ArrayT,
    sample_rate: int,
    separator: Separator | str | Path = "danna",
    options: Options = DEFAULTS,
    *,
    progress: Callable[[float], object] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    **changes: Any,
) -> dict[str, ArrayT]:
    """Stems of a mixture in memory.

    Args:
        mixture: NumPy array or tensor (channel, time); floating point, full scale 1.0, left untouched.
        sample_rate: Its rate, 8000 to 192000 Hz.
        separator: A preset's name or file, or what `load` gave.
        options: How; `shifts`, `device` and `precision` count when a separator is loaded, not for one that is ready.
        progress: Called with the share that is done, 0 to 1.
        cancelled: Asked before every batch of segments.
        changes: Fields of Options to set otherwise.

    Returns:
        For each stem, an array of the mixture's kind, type, length and rate; and of its channels,
        unless `channels` says otherwise.

    Raises:
        AudioError: A mixture that cannot be separated.
        ConfigError: Options out of range.
        Cancelled: When `cancelled` said so.
    """
    blocks = stream(mixture, sample_rate, separator, options, cancelled=cancelled, **changes)
    parts: dict[str, list[ArrayT]] = {}
    n_done, n_frames = 0, mixture.shape[-1]
    for block in blocks:
        for stem, samples in block.items():
            parts.setdefault(stem, []).append(samples)
        n_done += next(iter(block.values())).shape[-1]
        if progress:
            progress(n_done / n_frames)
    return {stem: _concatenate(blocks) for stem, blocks in parts.items()}


def stream(
    mixture: ArrayT,
    sample_rate: int,
    separator: Separator | str | Path = "danna",
    options: Options = DEFAULTS,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    **changes: Any,
) -> Iterator[dict[str, ArrayT]]:
    """As `separate`, block by block as segments are done; blocks of one stem follow each other without gap.

    See `separate` for arguments and errors; those of the mixture and the options are raised at the call.
    """
    samples, restore = as_float32(mixture)
    rate_hz = checked_rate(sample_rate)
    check_samples(samples)
    plan = audio.channel_plan(samples.shape[0], options.changed(changes).channels, "the mixture")
    separator, options = _prepared(separator, options, changes)
    n_block = round(_BLOCK_S * rate_hz)
    blocks = (samples[:, start : start + n_block] for start in range(0, samples.shape[1], n_block))
    stems = stems_of_blocks(blocks, rate_hz, plan, separator, options, cancelled=cancelled)
    return ({stem: restore(block) for stem, block in item.items()} for item in stems)


def separate_file(
    path: Path | str,
    out_dir: Path | str = "separated",
    separator: Separator | str | Path = "danna",
    options: Options = DEFAULTS,
    *,
    outputs: Mapping[str, Path] | None = None,
    format: str = "wav",
    bits: str = "auto",
    overwrite: bool = False,
    repair: bool = False,
    progress: Callable[[float, float | None], object] | None = None,
    warn: Callable[[str], object] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    **changes: Any,
) -> FileResult:
    """Stems of an audio file, as files of its rate, length and channels; all of them or none.

    Args:
        path: Any file that soundfile reads; M4A and video with the `av` extra.
        out_dir: Stems go to out_dir/TRACK/STEM.FORMAT, unless `outputs` says where.
        separator: A preset's name or file, or what `load` gave.
        options: How.
        outputs: Path for each of `options.outputs`.
        format: "wav", "flac", "mp3" or "ogg".
        bits: "16", "24", "float", or "auto" for the input's own.
        overwrite: Replace files that are in the way.
        repair: Take NaN and infinite samples as zero instead of refusing the file.
        progress: Called with seconds done, and in all if known.
        warn: Called with one line for each thing that the user should know; all are in the result too.
        cancelled: Asked before every batch of segments.
        changes: Fields of Options to set otherwise.

    Raises:
        AudioError: An input that cannot be separated.
        OutputError: Results that cannot be written.
        ConfigError: Options out of range, or a format that cannot hold the result.
        Cancelled: When `cancelled` said so.
    """
    path = Path(path)
    wanted = options.changed(changes)
    warnings: list[str] = []

    def note(message: str) -> None:
        warnings.append(message)
        if warn:
            warn(message)

    if outputs is None:
        outputs = audio.output_paths([path], Path(out_dir), stems=wanted.outputs, extension=format)[path]
    _check_outputs(outputs, wanted, path)
    with audio.AudioReader(path, repair=repair, warn=note) as reader:
        info = reader.info
        plan = audio.channel_plan(info.n_channels, wanted.channels, path)
        if bits == "auto":
            bits = audio.resolve_bits(info, format)
        writer = audio.StemWriter(
            outputs,
            sample_rate=info.sample_rate,
            n_channels=plan.n_out,
            n_frames=info.n_frames,
            format=format,
            bits=bits,
            overwrite=overwrite,
            warn=note,
        )
        separator, options = _prepared(separator, options, changes)
        with writer:
            blocks = reader.blocks(round(_BLOCK_S * info.sample_rate))
            found = stems_of_blocks(
                blocks,
                info.sample_rate,
                plan,
                separator,
                options,
                sample_step=audio.sample_step(bits),
                cancelled=cancelled,
            )
            n_done = 0
            for stems in found:
                writer.write(stems)
                n_done += next(iter(stems.values())).shape[1]
                if progress:
                    progress(n_done / info.sample_rate, info.duration_s)
                del stems  # the next ones are made meanwhile
            report = writer.commit()
    return FileResult(outputs, report.n_frames, report.gain, tuple(warnings))


def resolve_device(device: str) -> str:
    """The device that "auto" stands for, or the one named.

    Raises:
        ConfigError: There is no such device on this machine.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    kind = device.partition(":")[0]
    if kind not in available:
        raise ConfigError(f"no device {device!r}; there are auto, {', '.join(available)}")
    if not available[kind]:
        usable = [name for name, there in available.items() if there]
        raise ConfigError(f"this machine has no {kind} device that PyTorch can use; it has {', '.join(usable)}")
    return device


def resolve_precision(precision: str, device: str, whole: bool = False) -> str:
    """The precision of the networks' arithmetic that "auto" stands for on a device, or the one named.

    Raises:
        ConfigError: There is none of that name.
    """
    from danna_sep.models.precision import resolve_precision

    return resolve_precision(precision, device, whole)


def _prepared(
    separator: Separator | str | Path, options: Options, changes: Mapping[str, Any]
) -> tuple[Separator, Options]:
    options = options.changed(changes)
    if isinstance(separator, str | Path):
        return load(separator, options), options
    for name in ("shifts", "device", "precision"):
        if name in changes:
            raise ConfigError(f"{name} is settled when a separator is loaded: load(..., {name}={changes[name]!r})")
    return separator, options


def _check_outputs(outputs: Mapping[str, Path], options: Options, path: Path) -> None:
    if set(outputs) != set(options.outputs):
        raise ConfigError(f"{path}: outputs are needed for {', '.join(options.outputs)}, not {', '.join(outputs)}")
    for output in outputs.values():
        if output.exists() and path.exists() and output.samefile(path):
            raise OutputCollision(f"{path}: would be written over; choose another output")


def _concatenate(blocks: list[ArrayT]) -> ArrayT:
    if isinstance(blocks[0], np.ndarray):
        return np.concatenate(blocks, -1)
    import torch

    return torch.cat(blocks, -1)
