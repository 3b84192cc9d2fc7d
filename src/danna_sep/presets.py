"""Named systems: which models, which weights, which blend.

A name is a built-in preset's, the path of a preset file (it ends in .json) or of a weights file (.safetensors), or an
installed separator's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from danna_sep import plugins, preset_file, weights
from danna_sep.errors import ConfigError
from danna_sep.preset_file import CascadePart, FilePart, Part, PluginPart, PresetPart, WeightsPart
from danna_sep.types import SOURCES
from danna_sep.weights.originals import ORIGINAL_BLEND, ORIGINAL_FAST_BLEND

_ALONE = (1.0, 1.0, 1.0, 1.0)
_NOTHING = (0.0, 0.0, 0.0, 0.0)
_BUNDLE = "provisional"

_Files: TypeAlias = dict[str, Path]


@dataclass(frozen=True)
class Preset:
    """A named system.

    Attributes:
        summary: One line for the person who chooses.
        weights: Name of the weights of each model.
        blend: Weight of each model in drums, bass, other and vocals.
        is_original: The authors' released system, which hears whole tracks in its own way.
        recurs: Whether its stems are averaged where a song repeats itself.
    """

    summary: str
    weights: Mapping[str, str]
    blend: Mapping[str, Sequence[float]]
    is_original: bool = False
    recurs: bool = False


def _bundle(blend: Mapping[str, Sequence[float]], summary: str, recurs: bool = False) -> Preset:
    return Preset(summary, {model: f"{_BUNDLE}-{model}" for model in blend}, blend, recurs=recurs)


def _original(blend: Mapping[str, Sequence[float]], summary: str) -> Preset:
    return Preset(summary, {model: f"original-{model}" for model in blend}, blend, is_original=True)


PRESETS: Final[Mapping[str, Preset]] = {
    "danna": _bundle(
        {
            "wide-unet": _ALONE,
            "unet": _NOTHING,  # these would add nothing
            "xumx": _NOTHING,
            "demucs": _NOTHING,
        },
        "the wide U-Net that ships, averaged where a song repeats itself; the other models add nothing yet",
        recurs=True,
    ),
    "fast": _bundle(
        {"wide-unet": _ALONE, "demucs": _NOTHING}, "the same, not averaged: faster, and the first stems come sooner"
    ),
    "xumx": _bundle({"xumx": _ALONE}, "X-UMX alone"),
    "unet": _bundle({"unet": _ALONE}, "U-Net alone"),
    "wide-unet": _bundle({"wide-unet": _ALONE}, "a U-Net of twice the width alone"),
    "demucs": _bundle({"demucs": _ALONE}, "Demucs alone"),
    "original": _original(ORIGINAL_BLEND, "all three models, with the authors' own weights, once fetched or imported"),
    "original-fast": _original(ORIGINAL_FAST_BLEND, "U-Net and Demucs, with the authors' own weights"),
}


def check(preset: str, sources: Sequence[str] = SOURCES) -> None:
    """Look for all that a preset needs for some stems; without torch, so that what is missing is said at once.

    Raises:
        ConfigError: No such preset or stem, a preset file that cannot be used, or a separator that is not installed.
        WeightsError: Weights that are missing or damaged.
    """
    check_sources(sources)
    _check(preset, tuple(sources), ())


def label(preset: str) -> str:
    """What to call a preset in the names of files: its name, or its file's without the ending."""
    return Path(preset).stem if preset_file.is_file_name(preset) else preset


def rows(preset: str) -> dict[str, dict[str, float]]:
    """Weight of each separator or model of a built-in preset or a preset file in each source.

    Raises:
        ConfigError: No such preset, or a preset file that cannot be read.
    """
    if preset_file.is_file_name(preset):
        return {name: dict(row) for name, row in preset_file.read(Path(preset)).blend.items()}
    return {name: dict(zip(SOURCES, map(float, row), strict=True)) for name, row in find(preset).blend.items()}


def sources_of(preset: str) -> tuple[str, ...]:
    """The stems that a built-in preset or a preset file gives.

    Raises:
        ConfigError: No such preset, or a preset file that cannot be read or gives none.
    """
    given = tuple(source for source in SOURCES if any(source in row for row in rows(preset).values()))
    if not given:
        raise ConfigError(f"{preset}: has no weights at all")
    return given


def find(preset: str) -> Preset:
    """The built-in preset of that name.

    Raises:
        ConfigError: There is none.
    """
    if preset not in PRESETS:
        raise ConfigError(f"no preset {preset!r}; there are {', '.join(PRESETS)}")
    return PRESETS[preset]


def find_weights(preset: str, sources: Sequence[str] = SOURCES) -> dict[str, Path]:
    """File of each model that a built-in preset needs for some stems; without torch.

    Raises:
        ConfigError: No such preset or stem.
        WeightsError: Weights that are missing or damaged.
    """
    chosen = find(preset)
    check_sources(sources)
    places = [SOURCES.index(source) for source in (SOURCES if chosen.recurs else sources)]
    needed = [name for name, row in chosen.blend.items() if any(row[place] for place in places)]
    return {name: weights.find(chosen.weights[name]) for name in needed}


def check_sources(sources: Sequence[str]) -> None:
    """Raise ConfigError unless these are different sources, at least one."""
    for source in sources:
        if source not in SOURCES:
            raise ConfigError(f"no stem {source!r}; there are {', '.join(SOURCES)}")
    if not sources or len(set(sources)) < len(sources):
        raise ConfigError(f"stems must be one or more different ones of {', '.join(SOURCES)}")


def weights_files(preset: str) -> dict[str, Path]:
    """Every weights file that a preset uses, by a name for it: what makes its results what they are.

    Raises:
        ConfigError: No such preset, or a preset file that cannot be used.
        WeightsError: Weights that are missing or damaged.
    """
    if preset in PRESETS:
        return find_weights(preset)
    if not preset_file.is_file_name(preset):
        check_known(preset)
        return {}
    check(preset, sources_of(preset))
    files: dict[str, Path] = {}
    read = preset_file.read(Path(preset))
    for name in read.needed(SOURCES):
        within = _files_of_part(read.separators[name], weights_files, _weights_file)
        files |= {f"{name}{tail}": path for tail, path in within.items()}
    return files


def preset_files(preset: str) -> dict[str, Path]:
    """The preset file of that path and those that add something to it, by a name for each; of another preset none.

    Args:
        preset: One that `check` takes.
    """
    path = Path(preset)
    if not preset_file.is_file_name(preset) or path.name.lower().endswith(preset_file.WEIGHTS_SUFFIX):
        return {}
    files, read = {label(preset): path}, preset_file.read(path)
    for name in read.needed(SOURCES):
        within = _files_of_part(read.separators[name], preset_files, lambda _: {})
        files |= {f"{label(preset)}/{name}{tail}": each for tail, each in within.items()}
    return files


def _files_of_part(part: Part, of_preset: Callable[[str], _Files], of_model: Callable[[Part], _Files]) -> _Files:
    """Files of a part and of those within it, by what to put behind its name."""
    if isinstance(part, PresetPart):
        return {f"/{name}": path for name, path in of_preset(part.name).items()}
    if not isinstance(part, CascadePart):
        return of_model(part)
    named = (("first", part.first), ("rest", part.rest))
    return {
        f"/{name}{tail}": path
        for name, each in named
        for tail, path in _files_of_part(each, of_preset, of_model).items()
    }


def _weights_file(part: Part) -> _Files:
    if isinstance(part, FilePart):
        return {"": part.path}
    return {"": weights.find(part.name)} if isinstance(part, WeightsPart) else {}


def _check(preset: str, sources: tuple[str, ...], parents: tuple[Path, ...]) -> None:
    if preset in PRESETS:
        find_weights(preset, sources)
    elif preset_file.is_file_name(preset):
        file, parents = opened(preset, sources, parents)
        for name in file.needed(sources):
            own = tuple(source for source in file.computed(sources) if file.blend[name].get(source))
            _check_part(file.separators[name], own, parents)
    else:
        check_known(preset)


def _check_part(part: Part, sources: tuple[str, ...], parents: tuple[Path, ...]) -> None:
    if isinstance(part, PresetPart):
        _check(part.name, sources, parents)
    elif isinstance(part, WeightsPart):
        weights.find(part.name)
    elif isinstance(part, FilePart):
        weights.read_header(part.path)
    elif isinstance(part, PluginPart):
        plugins.find(part.name)
    else:
        _check_part(part.first, part.taken, parents)
        if left := tuple(source for source in sources if source not in part.taken):
            _check_part(part.rest, left, parents)


def check_known(preset: str) -> None:
    """Raise ConfigError unless this is the name of an installed separator."""
    if preset not in plugins.known():
        raise ConfigError(
            f"no preset {preset!r}; there are {', '.join((*PRESETS, *plugins.known()))}, "
            "and files that end in .json or .safetensors"
        )
    plugins.find(preset)


def opened(
    preset: str, sources: tuple[str, ...], parents: tuple[Path, ...]
) -> tuple[preset_file.PresetFile, tuple[Path, ...]]:
    """A preset file that has weights for these sources, and the files that led to it.

    Raises:
        ConfigError: A file that cannot be used, has no weights for a source, or is a part of itself.
    """
    path = Path(preset)
    if path.resolve() in parents:
        raise ConfigError(f"{path}: this preset is a part of itself")
    file = preset_file.read(path)
    if missing := [source for source in sources if source not in file.sources]:
        has = f"choose stems out of {', '.join(file.sources)}" if file.sources else "it has no weights at all"
        raise ConfigError(f"{path}: no weights for {', '.join(missing)}; {has}")
    if not file.needed(sources):
        raise ConfigError(f"{path}: all weights for {', '.join(sources)} are 0, so there is nothing to separate")
    return file, (*parents, path.resolve())
