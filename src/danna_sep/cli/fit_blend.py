"""`danna-sep fit-blend`: what each argument stands for, the fit, the preset file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from danna_sep import preset_file
from danna_sep.cli import fit_report
from danna_sep.cli.failures import OK
from danna_sep.cli.interrupt import Interrupt, Interruptible
from danna_sep.errors import Cancelled, ConfigError, OutputExists, WriteFailed
from danna_sep.preset_file import CascadePart, Part, PluginPart, PresetFile, PresetPart, is_file_name

if TYPE_CHECKING:
    from danna_sep.evaluation.blend_fit import BlendReport
    from danna_sep.evaluation.estimates import Estimator

    Chosen: TypeAlias = PresetPart | PluginPart | Path
    """What an argument can stand for; a path is a folder of finished stems."""


@dataclass(frozen=True)
class Request:
    """The command line's arguments, as given."""

    separators: Sequence[str]
    data: Path
    split: str | None
    constraint: str
    objective: str
    excerpt_s: float | None
    excerpt_from: str
    folds: int | None
    compare: Sequence[str]
    out: Path | None
    device: str
    precision: str
    overwrite: bool
    as_json: bool
    quiet: bool


def run(request: Request) -> int:
    """Do it; gives the exit code."""
    from danna_sep import allocator, api, presets
    from danna_sep.evaluation import blend_weights
    from danna_sep.evaluation.blend_fit import check_names, fit_blend, hear
    from danna_sep.evaluation.estimates import Span
    from danna_sep.songs import find_songs

    allocator.keep_freed_memory()
    blend_weights.check(request.constraint, request.objective)
    device = api.resolve_device(request.device)
    precision = api.resolve_precision(request.precision, device)
    parts = _parts(request.separators)
    _check_out(request, parts)
    given = {label: presets.rows(label) for label in request.compare}
    check_names(list(parts), given)
    songs = find_songs(request.data, request.split)
    with Interrupt() as interrupt:
        try:
            estimators = _estimators(parts, device, precision, interrupt)
            with fit_report.bar(request.quiet or request.as_json) as progress:
                span = Span(request.excerpt_s, request.excerpt_from)
                grams = hear(estimators, songs, span, progress=progress, cancelled=interrupt)
        except Cancelled:
            return interrupt.exit_code
    report = fit_blend(grams, request.constraint, request.objective, given=given, folds=request.folds)
    if not report.fits:
        raise ConfigError(f"{request.data}: no song has a stem that can be heard and that these separators have")
    if request.out is not None:
        try:
            _write(request.out, report, parts, len(songs))
        except WriteFailed:
            fit_report.show(report, precision, None)  # it may have taken hours
            raise
    if request.as_json:
        fit_report.show_json(report, precision, request.out)
    else:
        fit_report.show(report, precision, request.out)
    return OK


def _parts(names: Sequence[str]) -> dict[str, Chosen]:
    """What each argument stands for, by the name that it gets.

    Raises:
        ConfigError: Nothing of that name, or two of one.
        WeightsError: Weights that are missing or damaged.
    """
    from danna_sep import plugins, presets

    parts: dict[str, Chosen] = {}
    for name in names:
        part: Chosen
        if name in presets.PRESETS or is_file_name(name):
            part, short = PresetPart(name), presets.label(name)
            presets.check(name, presets.sources_of(name))
        elif name in plugins.known():
            plugins.find(name)
            part, short = PluginPart(name), name
        elif os.path.isdir(name):  # noqa: PTH112  (Path.is_dir raises for names that are too long)
            part, short = Path(name), Path(name).resolve().name
        else:
            there = ", ".join((*presets.PRESETS, *plugins.known()))
            raise ConfigError(f"no separator {name!r}; there are {there}, preset files and folders of stems")
        if short in parts:
            raise ConfigError(f"two separators are called {short!r}; rename a file or a folder")
        parts[short] = part
    return parts


def _check_out(request: Request, parts: Mapping[str, Chosen]) -> None:
    out = request.out
    if out is None:
        return
    if out.suffix.lower() != ".json":
        raise ConfigError(f"{out}: a preset file must end in .json")
    for part in parts.values():
        if isinstance(part, Path):
            raise ConfigError(f"{part}: holds finished stems, with which no preset can separate; leave --out away")
        if out.resolve() in _files_within(part, set()):
            raise ConfigError(f"{out}: would be a part of itself; choose another --out")
    if os.path.lexists(out) and not request.overwrite:
        raise OutputExists(f"{out}: exists already; --overwrite replaces it")


def _files_within(part: Part, found: set[Path]) -> set[Path]:
    """Adds the preset files that a part is made of, at any depth, those without weight as well: they may get some."""
    if isinstance(part, CascadePart):
        return _files_within(part.rest, _files_within(part.first, found))
    if not isinstance(part, PresetPart) or not is_file_name(part.name) or Path(part.name).resolve() in found:
        return found
    found.add(Path(part.name).resolve())
    with suppress(ConfigError):  # it has no weight, or its absence would have been said
        for each in preset_file.read(Path(part.name)).separators.values():
            _files_within(each, found)
    return found


def _estimators(parts: Mapping[str, Chosen], device: str, precision: str, interrupt: Interrupt) -> dict[str, Estimator]:
    from danna_sep import loading, plugins, presets
    from danna_sep.evaluation.estimates import stem_folder

    estimators: dict[str, Estimator] = {}
    with interrupt.anywhere():
        for short, part in parts.items():
            if isinstance(part, Path):
                estimators[short] = stem_folder(part)
                continue
            if isinstance(part, PluginPart):
                separator = plugins.load(part.name, device=device)
            else:
                sources = presets.sources_of(part.name)
                separator = loading.load(part.name, sources=sources, device=device, precision=precision)
            estimators[short] = Interruptible(separator, interrupt)
    return estimators


def _write(out: Path, report: BlendReport, parts: Mapping[str, Chosen], n_songs: int) -> None:
    means = ", ".join(f"{source} {fit.sdr_db['fitted']:.2f}" for source, fit in report.fits.items())
    summary = f"{report.constraint} weights fitted on {n_songs} songs; SDR there, dB: {means}"
    separators = {short: part for short, part in parts.items() if not isinstance(part, Path)}
    blend = {short: report.blend.get(short, {}) for short in separators}
    preset_file.write(out, PresetFile(separators, blend, summary))
