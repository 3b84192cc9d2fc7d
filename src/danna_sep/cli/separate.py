"""`danna-sep separate`: all files of one call, each of which may fail without the others."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from danna_sep.cli.failures import OK, complain, exit_code, show_traceback
from danna_sep.cli.interrupt import Interrupt, Interruptible
from danna_sep.cli.render import Report
from danna_sep.errors import Cancelled, ConfigError, OutputExists, UnreadableAudio
from danna_sep.types import SAMPLE_RATE, SOURCES

if TYPE_CHECKING:
    from danna_sep.audio import AudioInfo
    from danna_sep.options import Options
    from danna_sep.separators import Separator


@dataclass(frozen=True)
class Request:
    """The command line's arguments, as given."""

    files: Sequence[Path]
    out_dir: Path
    template: str
    stems: str | None
    two_stems: str | None
    preset: str
    shifts: int
    segment_s: float | None
    overlap: float
    whole: bool
    device: str
    precision: str
    threads: int | None
    format: str
    bits: str
    channels: str
    repair: bool
    overwrite: bool
    verbose: bool


def run(request: Request, report: Report) -> int:
    """Do it; gives the exit code."""
    session = _Session(request, report)
    with session.interrupt:
        try:
            session.run()
        except BrokenPipeError:
            raise
        except Exception as error:  # concerns all files, or was a signal
            session.fail(None, error)
        code = session.interrupt.exit_code or next(iter(session.codes), OK)
        report.end(session.n_done, session.n_failed, code)
    return code


class _Session:
    """One call, and what became of its files."""

    def __init__(self, request: Request, report: Report) -> None:
        self.request = request
        self.report = report
        self.interrupt = Interrupt()
        self.n_done = 0
        self.n_failed = 0
        self.codes: list[int] = []

    def run(self) -> None:
        from danna_sep import allocator, api, audio, presets

        allocator.keep_freed_memory()
        request = self.request
        options = _options(request)
        files = [path for path in request.files if not self.is_folder(path)]
        outputs = audio.output_paths(
            files,
            request.out_dir,
            request.template,
            stems=options.outputs,
            extension=request.format,
            extra={"preset": presets.label(request.preset)},
        )
        presets.check(request.preset, options.computed)
        ready = [info for path in files if (info := self.probed(path, outputs[path]))]
        if not ready:
            return
        with self.interrupt.anywhere():
            separator = Interruptible(self.load(options), self.interrupt)
        for index, info in enumerate(ready):
            self.interrupt.check()
            path = info.path
            self.report.start(info, index, len(ready))
            start_s = time.monotonic()

            def progress(done_s: float, total_s: float | None, path: Path = path, start_s: float = start_s) -> None:
                elapsed_s = time.monotonic() - start_s
                left_s = elapsed_s * max(0.0, total_s - done_s) / done_s if total_s and done_s else None
                self.report.progress(path, done_s, total_s, left_s)

            def warn(text: str, path: Path = path) -> None:
                self.report.warning(path, text)

            try:
                result = api.separate_file(
                    path,
                    separator=separator,
                    options=options,
                    outputs=outputs[path],
                    format=request.format,
                    bits=request.bits,
                    overwrite=request.overwrite,
                    repair=request.repair,
                    progress=progress,
                    warn=warn,
                    cancelled=self.interrupt,
                )
            except (Cancelled, BrokenPipeError):
                raise
            except Exception as error:
                self.fail(path, error)
            else:
                self.n_done += 1
                self.report.done(path, result, time.monotonic() - start_s)

    def is_folder(self, path: Path) -> bool:
        """Whether it is one, which is a failure; found out first, since some, such as `.`, name no track."""
        found = os.path.isdir(path)  # noqa: PTH112  (Path.is_dir raises for names that are too long)
        if found:
            self.fail(path, UnreadableAudio(f"{path}: is a folder; give the audio files in it, as {path / '*.mp3'}"))
        return found

    def probed(self, path: Path, outputs: Mapping[str, Path]) -> AudioInfo | None:
        """The file, if nothing stands against separating it as far as can be seen before."""
        from danna_sep import audio

        self.interrupt.check()
        try:
            info = audio.probe(path)
            audio.channel_plan(info.n_channels, self.request.channels, path)
            if not self.request.overwrite:
                for output in outputs.values():
                    if os.path.lexists(output):
                        raise OutputExists(f"{output}: exists already; --overwrite replaces it")
        except (Cancelled, BrokenPipeError):
            raise
        except Exception as error:  # of whatever kind: the other files are still done
            self.fail(path, error)
            return None
        return info

    def load(self, options: Options) -> Separator:
        """The separator, for all files."""
        import torch

        from danna_sep import api
        from danna_sep.streaming import DEFAULT_SEGMENT_S, segment_grid

        request = self.request
        if request.threads is not None:
            torch.set_num_threads(request.threads)
        segment_grid(DEFAULT_SEGMENT_S if options.segment_s is None else options.segment_s, options.overlap)
        start_s = time.monotonic()
        separator = api.load(request.preset, options)
        if request.verbose:
            device = api.resolve_device(options.device)
            precision = api.resolve_precision(options.precision, device, options.whole)
            where = f"{device}, {precision}, {torch.get_num_threads()} threads"
            complain(f"{request.preset} on {where}, loaded in {time.monotonic() - start_s:.1f} s")
        gc.freeze()  # PyTorch's many objects stay: no collection needs to look through them, the one at the end least
        return separator

    def fail(self, path: Path | None, error: Exception) -> None:
        """Report a failure; the first one's exit code counts."""
        self.codes.append(exit_code(error))
        if path is not None:
            self.n_failed += 1
        self.report.error(path, error)
        if self.request.verbose:
            show_traceback(error)


def _options(request: Request) -> Options:
    """The options, as far as they can be judged without any file.

    Raises:
        ConfigError: Unknown or contradictory ones.
    """
    from danna_sep import audio, presets
    from danna_sep.options import Options

    if request.stems is not None and request.two_stems is not None:
        raise ConfigError("--stems and --two-stems contradict each other; choose one")
    if request.whole and request.segment_s is not None:
        raise ConfigError("--whole and --segment contradict each other; choose one")
    if request.format not in audio.FORMATS:
        raise ConfigError(f"--format {request.format}: choose one of {', '.join(audio.FORMATS)}")
    if request.bits != "auto":
        audio.check_output(request.format, request.bits, SAMPLE_RATE, 1)
    audio.channel_plan(1, request.channels, "")
    stems = SOURCES if request.stems is None else tuple(name.strip() for name in request.stems.split(","))
    options = Options(
        stems=stems,
        two_stems=request.two_stems,
        shifts=request.shifts,
        segment_s=request.segment_s,
        overlap=request.overlap,
        whole=request.whole,
        channels=request.channels,
        device=request.device,
        precision=request.precision,
    )
    presets.check_sources(options.computed)
    return options
