"""Named systems: which models, which weights, which blend.

A name is a built-in preset's, the path of a preset file (it ends in .json) or of a weights file (.safetensors), or an
installed separator's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from danna_sep import plugins, preset_file, weights
from danna_sep.errors import ConfigError, CorruptWeights
from danna_sep.preset_file import FilePart, Part, PluginPart, PresetPart, WeightsPart
from danna_sep.types import SOURCES
from danna_sep.weights.originals import ORIGINAL_BLEND, ORIGINAL_FAST_BLEND

if TYPE_CHECKING:
    import torch

    from danna_sep.separators import Separator

WIENER_ITERATIONS: Final = "wiener_iterations"
"""Note in a weights file's header. The filter can do no better than the masks that it learns its statistics from: the
small models that ship separate better without it."""

_ALONE = (1.0, 1.0, 1.0, 1.0)
_BUNDLE = "provisional"


@dataclass(frozen=True)
class Preset:
    """A named system.

    Attributes:
        summary: One line for the person who chooses.
        weights: Name of the weights of each model.
        blend: Weight of each model in drums, bass, other and vocals.
        is_original: The authors' released system, which hears whole tracks in its own way.
    """

    summary: str
    weights: Mapping[str, str]
    blend: Mapping[str, Sequence[float]]
    is_original: bool = False


def _bundle(blend: Mapping[str, Sequence[float]], summary: str) -> Preset:
    return Preset(summary, {model: f"{_BUNDLE}-{model}" for model in blend}, blend)


def _original(blend: Mapping[str, Sequence[float]], summary: str) -> Preset:
    return Preset(summary, {model: f"original-{model}" for model in blend}, blend, is_original=True)


PRESETS: Final[Mapping[str, Preset]] = {
    "danna": _bundle(
        {
            "xumx": (0.06, 0.08, 0.19, 0.07),
            "unet": (0.94, 0.71, 0.81, 0.93),
            "demucs": (0.00, 0.21, 0.00, 0.00),
        },
        "all three models, with the weights that ship",
    ),
    "fast": _bundle(
        {"unet": (1.0, 0.76, 1.0, 0.94), "demucs": (0.0, 0.24, 0.0, 0.06)},
        "U-Net and Demucs, with the weights that ship",
    ),
    "xumx": _bundle({"xumx": _ALONE}, "X-UMX alone"),
    "unet": _bundle({"unet": _ALONE}, "U-Net alone"),
    "demucs": _bundle({"demucs": _ALONE}, "Demucs alone"),
    "original": _original(ORIGINAL_BLEND, "all three models, with the authors' own weights, once fetched or imported"),
    "original-fast": _original(ORIGINAL_FAST_BLEND, "U-Net and Demucs, with the authors' own weights"),
}


@dataclass(frozen=True)
class _Use:
    """How the models of a system will be used; see `load`."""

    shifts: int = 1
    whole: bool = False
    device: str | torch.device = "cpu"
    precision: str = "f32"


def load(
    preset: str = "danna",
    *,
    sources: Sequence[str] = SOURCES,
    shifts: int = 1,
    whole: bool = False,
    device: str | torch.device = "cpu",
    precision: str = "f32",
) -> Separator:
    """The separator that a preset names, ready to be called.

    Args:
        preset: A key of PRESETS, the path of a preset file, or an installed separator's name.
        sources: Stems wanted; what they do not need is neither loaded nor computed.
        shifts: Runs of the waveform model, averaged.
        whole: Separate as the authors did, on whole tracks; matters to the original system only.
        device: Where the parameters go.
        precision: Of our networks' arithmetic: "f32", "bf16", or "auto"; see `resolve_precision`.

    Raises:
        ConfigError: No such preset, stem or precision, or a preset file that cannot be used.
        WeightsError: Weights that are missing or damaged.
    """
    from danna_sep.models.precision import resolve_precision

    if shifts < 1:
        raise ConfigError(f"shifts must be at least 1, not {shifts}")
    check_sources(sources)
    use = _Use(shifts, whole, device, resolve_precision(precision, device, whole))
    return _load(preset, tuple(sources), use, ())


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
    places = [SOURCES.index(source) for source in sources]
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
        _check_known(preset)
        return {}
    check(preset, sources_of(preset))
    files: dict[str, Path] = {}
    for name, part in preset_file.read(Path(preset)).separators.items():
        files |= {f"{name}{tail}": path for tail, path in _files_of_part(part).items()}
    return files


def _files_of_part(part: Part) -> dict[str, Path]:
    if isinstance(part, FilePart):
        return {"": part.path}
    if isinstance(part, WeightsPart):
        return {"": weights.find(part.name)}
    if isinstance(part, PresetPart):
        return {f"/{name}": path for name, path in weights_files(part.name).items()}
    if isinstance(part, PluginPart):
        return {}
    named = (("first", part.first), ("rest", part.rest))
    return {f"/{name}{tail}": path for name, each in named for tail, path in _files_of_part(each).items()}


def _check(preset: str, sources: tuple[str, ...], parents: tuple[Path, ...]) -> None:
    if preset in PRESETS:
        find_weights(preset, sources)
    elif preset_file.is_file_name(preset):
        file, parents = _opened(preset, sources, parents)
        for name in file.needed(sources):
            own = tuple(source for source in sources if file.blend[name].get(source))
            _check_part(file.separators[name], own, parents)
    else:
        _check_known(preset)


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


def _check_known(preset: str) -> None:
    if preset not in plugins.known():
        raise ConfigError(
            f"no preset {preset!r}; there are {', '.join((*PRESETS, *plugins.known()))}, "
            "and files that end in .json or .safetensors"
        )
    plugins.find(preset)


def _opened(
    preset: str, sources: tuple[str, ...], parents: tuple[Path, ...]
) -> tuple[preset_file.PresetFile, tuple[Path, ...]]:
    """A preset file that has weights for these sources, and the files that led to it."""
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


def _load(preset: str, sources: tuple[str, ...], use: _Use, parents: tuple[Path, ...]) -> Separator:
    from danna_sep.separators import Blend, only

    if preset in PRESETS:
        return _load_built_in(preset, sources, use)
    if not preset_file.is_file_name(preset):
        _check_known(preset)
        return only(plugins.load(preset, device=use.device), sources)
    file, parents = _opened(preset, sources, parents)
    separators: dict[str, Separator] = {}
    blend: dict[str, list[float]] = {}
    for name in file.needed(sources):
        row = file.blend[name]
        own = tuple(source for source in sources if row.get(source))
        try:
            separators[name] = _load_part(file.separators[name], own, use, parents)
        except ConfigError as error:
            raise ConfigError(f"{preset}: {name}: {error}") from error
        blend[name] = [row.get(source, 0.0) for source in sources]
    # The weights are as somebody chose or fitted them: no word if they do not sum to one.
    return Blend(separators, blend, sources, sums_to_one=False)


def _load_part(part: Part, sources: tuple[str, ...], use: _Use, parents: tuple[Path, ...]) -> Separator:
    from danna_sep.cascade import Cascade
    from danna_sep.separators import only

    if isinstance(part, PresetPart):
        return _load(part.name, sources, use, parents)
    if isinstance(part, WeightsPart):
        return only(_load_model(weights.find(part.name), use), sources)
    if isinstance(part, FilePart):
        return only(_load_model(part.path, use), sources)
    if isinstance(part, PluginPart):
        return only(plugins.load(part.name, device=use.device, options=part.options), sources)
    first = _load_part(part.first, part.taken, use, parents)
    left = tuple(source for source in sources if source not in part.taken)
    if not left:
        return only(first, sources)
    return Cascade(first, _load_part(part.rest, left, use, parents), part.taken, sources)


def _load_built_in(preset: str, sources: tuple[str, ...], use: _Use) -> Separator:
    from danna_sep.separators import Blend, only

    chosen = find(preset)
    separators = {
        name: _load_model(path, use, chosen.is_original and use.whole)
        for name, path in find_weights(preset, sources).items()
    }
    # Models that these stems do not need are not there, so the others' weights may lack theirs elsewhere.
    blend = Blend(separators, {name: chosen.blend[name] for name in separators}, sums_to_one=False)
    return only(blend, sources)


def _load_model(path: Path, use: _Use, in_the_originals_way: bool = False) -> Separator:
    import torch

    from danna_sep.convert import check_entries, original_separator
    from danna_sep.models import build
    from danna_sep.models.precision import lower
    from danna_sep.separators import MaskSeparator, WaveformSeparator

    kind, config, notes = weights.read_header(path)
    with torch.device("meta"):
        model = build(kind, config)
    if use.precision == "bf16":
        lower(model)
    # Entry by entry in the type in which it is used: all of a large model in float32 would be the most memory needed.
    entries = weights.read(path, {name: entry.dtype for name, entry in model.state_dict().items()}).entries
    check_entries(model, entries, str(path))
    model.load_state_dict(entries, assign=True)
    model.requires_grad_(False).eval()
    model.to(use.device)
    if in_the_originals_way:
        return original_separator(model, use.shifts)
    if kind == "demucs":
        return WaveformSeparator(model, use.shifts)
    return MaskSeparator(model, _wiener_iterations(path, notes))


def _wiener_iterations(path: Path, notes: Mapping[str, str]) -> int:
    """Rounds of the Wiener filter that a weights file asks for; one, the paper's, if it says nothing."""
    asked = notes.get(WIENER_ITERATIONS, "1")
    if asked not in ("0", "1", "2", "3"):
        raise CorruptWeights(f"{path}: {WIENER_ITERATIONS} must be from 0 to 3, not {asked!r}")
    return int(asked)
