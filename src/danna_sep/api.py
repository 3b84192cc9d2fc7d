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

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from danna_sep import audio, presets
from danna_sep.errors import AudioError, Cancelled, ConfigError, NonFiniteAudio, UnsupportedRate
from danna_sep.types import SAMPLE_RATE, SOURCES

if TYPE_CHECKING:
    import torch

    from danna_sep.separators import Separator

Block = npt.NDArray[np.float32]
ArrayT = TypeVar("ArrayT", npt.NDArray[Any], "torch.Tensor")

ACCOMPANIMENT = "accompaniment"
"""Name of what is left when one stem is taken out of the mixture."""

_BLOCK_S = 1.0
"""Audio that is read at once."""


@dataclass(frozen=True)
class Options:
    """How to separate.

    Attributes:
        stems: Stems wanted, out of drums, bass, other, vocals.
        two_stems: One stem, and the mixture without it as "accompaniment", instead of `stems`.
        shifts: Runs of the waveform model, averaged: slower, slightly better.
        segment_s: Seconds that the models hear at once; None for the default.
        overlap: Share of a segment, 0 to 0.5, that it has in common with the next.
        whole: The whole track at once, in memory, instead of segments.
        channels: What to do with more than two: "error", "pairs", "front" or "downmix".
        device: "auto", "cpu", "cuda" or "mps".
    """

    stems: Sequence[str] = SOURCES
    two_stems: str | None = None
    shifts: int = 1
    segment_s: float | None = None
    overlap: float = 0.25
    whole: bool = False
    channels: str = "error"
    device: str = "auto"

    @property
    def computed(self) -> tuple[str, ...]:
        """Stems that a separator must give."""
        return (self.two_stems,) if self.two_stems else tuple(self.stems)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the results."""
        return (self.two_stems, ACCOMPANIMENT) if self.two_stems else tuple(self.stems)


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


def load(preset: str = "danna", options: Options = Options(), **changes: Any) -> Separator:
    """The separator that a preset names, for `separate`, `stream` and `separate_file`.

    Args:
        preset: See `danna_sep.presets.PRESETS`.
        options: What it will be used for: stems, shifts, whole, device.
        changes: Fields of Options to set otherwise.

    Raises:
        ConfigError: No such preset, stem or device.
        WeightsError: Weights that are missing or damaged.
    """
    options = _changed(options, changes)
    return presets.load(
        preset,
        sources=options.computed,
        shifts=options.shifts,
        whole=options.whole,
        device=resolve_device(options.device),
    )


def separate(
    mixture: ArrayT,
    sample_rate: int,
    separator: Separator | str = "danna",
    options: Options = Options(),
    *,
    progress: Callable[[float], object] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    **changes: Any,
) -> dict[str, ArrayT]:
    """Stems of a mixture in memory.

    Args:
        mixture: NumPy array or tensor (channel, time); floating point, full scale 1.0, left untouched.
        sample_rate: Its rate, 8000 to 192000 Hz.
        separator: A preset's name, or what `load` gave.
        options: How.
        progress: Called with the share that is done, 0 to 1.
        cancelled: Asked before every segment.
        changes: Fields of Options to set otherwise.

    Returns:
        For each stem, an array of the mixture's kind, type, length and rate; and of its channels,
        unless `channels` says otherwise.

    Raises:
        AudioError: A mixture that cannot be separated.
        ConfigError: Options out of range.
        Cancelled: When `cancelled` said so.
    """
    parts: dict[str, list[ArrayT]] = {}
    n_done, n_frames = 0, mixture.shape[-1]
    for block in stream(mixture, sample_rate, separator, options, cancelled=cancelled, **changes):
        for stem, samples in block.items():
            parts.setdefault(stem, []).append(samples)
        n_done += next(iter(block.values())).shape[-1]
        if progress:
            progress(n_done / n_frames)
    return {stem: _concatenate(blocks) for stem, blocks in parts.items()}


def stream(
    mixture: ArrayT,
    sample_rate: int,
    separator: Separator | str = "danna",
    options: Options = Options(),
    *,
    cancelled: Callable[[], bool] = lambda: False,
    **changes: Any,
) -> Iterator[dict[str, ArrayT]]:
    """As `separate`, block by block as segments are done; blocks of one stem follow each other without gap.

    See `separate` for arguments and errors, which are raised at the call, not at the first block.
    """
    options = _changed(options, changes)
    samples, restore = _as_float32(mixture)
    _check_samples(samples, sample_rate)
    plan = audio.channel_plan(samples.shape[0], options.channels, "the mixture")
    if isinstance(separator, str):
        separator = load(separator, options)
    n_block = round(_BLOCK_S * sample_rate)
    blocks = (samples[:, start : start + n_block] for start in range(0, samples.shape[1], n_block))
    stems = stream_blocks(blocks, sample_rate, plan, separator, options, cancelled=cancelled)
    return ({stem: restore(block) for stem, block in item.items()} for item in stems)


def separate_file(
    path: Path | str,
    out_dir: Path | str = "separated",
    separator: Separator | str = "danna",
    options: Options = Options(),
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
        separator: A preset's name, or what `load` gave.
        options: How.
        outputs: Path for each of `options.outputs`.
        format: "wav", "flac", "mp3" or "ogg".
        bits: "16", "24", "float", or "auto" for the input's own.
        overwrite: Replace files that are in the way.
        repair: Take NaN and infinite samples as zero instead of refusing the file.
        progress: Called with seconds done, and in all if known.
        warn: Called with one line for each thing that the user should know; all are in the result too.
        cancelled: Asked before every segment.
        changes: Fields of Options to set otherwise.

    Raises:
        AudioError: An input that cannot be separated.
        OutputError: Results that cannot be written.
        ConfigError: Options out of range, or a format that cannot hold the result.
        Cancelled: When `cancelled` said so.
    """
    options = _changed(options, changes)
    path = Path(path)
    warnings: list[str] = []

    def note(message: str) -> None:
        warnings.append(message)
        if warn:
            warn(message)

    if outputs is None:
        named = audio.output_paths([path], Path(out_dir), stems=options.outputs, extension=format)
        outputs = named[path]
    with audio.AudioReader(path, repair=repair, warn=note) as reader:
        info = reader.info
        plan = audio.channel_plan(info.n_channels, options.channels, path)
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
        if isinstance(separator, str):
            separator = load(separator, options)
        with writer:
            blocks = reader.blocks(round(_BLOCK_S * info.sample_rate))
            n_done = 0
            for stems in stream_blocks(blocks, info.sample_rate, plan, separator, options, cancelled=cancelled):
                writer.write(stems)
                n_done += next(iter(stems.values())).shape[1]
                if progress:
                    progress(n_done / info.sample_rate, info.duration_s)
            report = writer.commit()
    return FileResult(outputs, report.n_frames, report.gain, tuple(warnings))


def stream_blocks(
    blocks: Iterable[Block],
    sample_rate: int,
    plan: audio.ChannelPlan,
    separator: Separator,
    options: Options = Options(),
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[dict[str, Block]]:
    """Blocks of an input (channel, time) to blocks of its stems, at the input's rate and the plan's channels.

    Nothing holds more than a segment and what the resampling filters need. The blocks of all stems that are given
    together are equally long, and all together as long as the input.
    """
    from danna_sep.separators import only
    from danna_sep.streaming import DEFAULT_SEGMENT_S, segment_grid
    from danna_sep.streaming import stream as stream_mixture

    presets.check_sources(options.computed)
    segment_s = DEFAULT_SEGMENT_S if options.segment_s is None else options.segment_s
    grid = segment_grid(segment_s, options.overlap)
    separator = only(separator, options.computed)
    device = resolve_device(options.device)
    kept = _Mixture(plan, options.two_stems is not None)
    inward = _Inward(plan, sample_rate)
    outward = _Outward(plan, sample_rate, len(options.computed))

    def mixtures() -> Iterator[torch.Tensor]:
        for block in blocks:
            if cancelled():  # `whole` hears nothing before it has read all
                raise Cancelled("cancelled")
            kept.push(block)
            yield from inward.push(block)
        yield from inward.finish()

    for stems in stream_mixture(
        mixtures(), separator, None if options.whole else grid, device=device, cancelled=cancelled
    ):
        yield from _named(outward.push(stems.numpy()), options, kept)
    yield from _named(outward.finish(kept.n_frames), options, kept)


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


class _Inward:
    """Input blocks -> stereo groups (group, channel, time) at the models' rate."""

    def __init__(self, plan: audio.ChannelPlan, sample_rate: int) -> None:
        self.plan = plan
        self.resampler = audio.StreamResampler(sample_rate, SAMPLE_RATE, 2 * plan.n_groups)

    def push(self, block: Block) -> Iterator[torch.Tensor]:
        groups = self.plan.split(block)
        return self._tensors(self.resampler.push(groups.reshape(-1, block.shape[1])))

    def finish(self) -> Iterator[torch.Tensor]:
        return self._tensors(self.resampler.finish())

    def _tensors(self, rows: Block) -> Iterator[torch.Tensor]:
        import torch

        if rows.shape[1]:
            # A copy: the rows may be the caller's own samples.
            yield torch.from_numpy(rows.reshape(self.plan.n_groups, 2, -1).copy())


class _Outward:
    """Stems (group, source, channel, time) at the models' rate -> (source, channel, time) at the input's."""

    def __init__(self, plan: audio.ChannelPlan, sample_rate: int, n_stems: int) -> None:
        self.plan, self.n_stems = plan, n_stems
        self.resampler = audio.StreamResampler(SAMPLE_RATE, sample_rate, n_stems * plan.n_out)

    def push(self, stems: Block) -> Block:
        joined = np.stack([self.plan.join(stems[:, index]) for index in range(self.n_stems)])
        rows = np.ascontiguousarray(joined.reshape(-1, joined.shape[-1]))
        return self._stems(self.resampler.push(rows))

    def finish(self, n_frames: int) -> Block:
        return self._stems(self.resampler.finish(n_frames))

    def _stems(self, rows: Block) -> Block:
        return rows.reshape(self.n_stems, self.plan.n_out, -1)


class _Mixture:
    """What has been read and not yet given, for the accompaniment; and how much was read."""

    def __init__(self, plan: audio.ChannelPlan, keep: bool) -> None:
        self.plan, self.keep = plan, keep
        self.blocks: deque[Block] = deque()
        self.n_frames = 0

    def push(self, block: Block) -> None:
        self.n_frames += block.shape[1]
        if self.keep:
            self.blocks.append(self.plan.join(self.plan.split(block)))

    def pop(self, n_frames: int) -> Block:
        taken: list[Block] = []
        while n_frames:
            block = self.blocks.popleft()
            if block.shape[1] > n_frames:
                self.blocks.appendleft(block[:, n_frames:])
                block = block[:, :n_frames]
            taken.append(block)
            n_frames -= block.shape[1]
        return np.concatenate(taken, 1)


def _named(stems: Block, options: Options, mixture: _Mixture) -> Iterator[dict[str, Block]]:
    if not stems.shape[-1]:
        return
    named = dict(zip(options.computed, stems, strict=True))
    if options.two_stems:
        named[ACCOMPANIMENT] = mixture.pop(stems.shape[-1]) - named[options.two_stems]
    yield named


def _changed(options: Options, changes: Mapping[str, Any]) -> Options:
    known = Options.__dataclass_fields__
    for name in changes:
        if name not in known:
            raise ConfigError(f"no option {name!r}; there are {', '.join(known)}")
    values = {name: getattr(options, name) for name in known}
    return Options(**{**values, **changes})


def _as_float32(mixture: ArrayT) -> tuple[Block, Callable[[Block], ArrayT]]:
    """The samples, and how to make of such samples what the caller gave."""
    if isinstance(mixture, np.ndarray):
        array, dtype = mixture, mixture.dtype
        if array.dtype.kind != "f":
            raise AudioError(f"the mixture must be floating point with full scale 1.0, not {dtype}")
        return np.asarray(array, np.float32), lambda block: block.astype(dtype, copy=False)
    import torch

    if not isinstance(mixture, torch.Tensor):
        raise AudioError(f"the mixture must be a NumPy array or a tensor, not {type(mixture).__name__}")
    if not mixture.is_floating_point():
        raise AudioError(f"the mixture must be floating point with full scale 1.0, not {mixture.dtype}")
    tensor = mixture
    return tensor.detach().cpu().float().numpy(), lambda block: torch.from_numpy(block).to(tensor)


def _check_samples(samples: Block, sample_rate: int) -> None:
    if samples.ndim != 2:
        raise AudioError(f"the mixture must have axes (channel, time), not {samples.ndim} of them")
    if not samples.shape[1]:
        raise AudioError("the mixture has no samples")
    if samples.shape[0] > max(32, samples.shape[1]):
        raise AudioError(f"the mixture must have axes (channel, time); {samples.shape} looks transposed")
    if not audio.MIN_RATE_HZ <= sample_rate <= audio.MAX_RATE_HZ:
        raise UnsupportedRate(
            f"the mixture's rate must be from {audio.MIN_RATE_HZ} to {audio.MAX_RATE_HZ} Hz, not {sample_rate}"
        )
    if not np.isfinite(samples).all():
        raise NonFiniteAudio("the mixture has NaN or infinite samples")


def _concatenate(blocks: list[ArrayT]) -> ArrayT:
    if isinstance(blocks[0], np.ndarray):
        return np.concatenate(blocks, -1)
    import torch

    return torch.cat(blocks, -1)
