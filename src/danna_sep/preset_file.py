"""Preset files: a blend of any separators as JSON, to be used by its path wherever a preset's name is.

    {"format": "danna-sep-preset/1",
     "summary": "one line for the person who chooses",
     "separators": {
       "mine": {"file": "mine.safetensors"},
       "unet": {"weights": "provisional-unet"},
       "long": {"weights": "provisional-unet", "config": {"n_fft": 8192, "hop_length": 2048}},
       "fast": {"preset": "fast"},
       "ht": {"plugin": "demucs", "options": {"model": "htdemucs_ft"}},
       "two": {"cascade": {"taken": ["vocals"], "first": {"plugin": "spleeter"}, "rest": {"preset": "danna"}}}},
     "blend": {"mine": {"drums": 0.4, "vocals": 1}, "unet": {"drums": 0.6, "bass": 1, "other": 1}, ...},
     "recurrence": true}

`file` is a weights file, `preset` a built-in preset or another preset file; both paths are relative to this file.
`config` changes what the header of weights says of their model, to what needs no other weights, such as the spectrum
heard. A source that a row does not name has the weight 0 there. With `recurrence` the blend's stems are averaged over
the places of the song that sound alike. Reading is strict: what is not known is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

from danna_sep.atomic import replacing
from danna_sep.errors import ConfigError
from danna_sep.types import SOURCES

FORMAT: Final = "danna-sep-preset/1"
WEIGHTS_SUFFIX: Final = ".safetensors"
_FIELDS: Final = ("format", "summary", "separators", "blend", "recurrence")
_EXTRAS: Final = {"plugin": ("options",), "weights": ("config",), "file": ("config",)}
"""Fields that may stand beside one of these kinds."""

Settings: TypeAlias = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class PresetPart:
    """A built-in preset by its name, or a preset file by its path."""

    name: str


@dataclass(frozen=True)
class WeightsPart:
    """A model by the name of its registered weights, with changes to its configuration."""

    name: str
    config: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class FilePart:
    """A model by the path of its weights file, with changes to its configuration."""

    path: Path
    config: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class PluginPart:
    """An installed separator by its name, with keyword arguments for its factory."""

    name: str
    options: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class CascadePart:
    """A separator for the sources `taken`, and another for what is left without them."""

    first: Part
    rest: Part
    taken: tuple[str, ...] = ("vocals",)


Part: TypeAlias = "PresetPart | WeightsPart | FilePart | PluginPart | CascadePart"


@dataclass(frozen=True)
class PresetFile:
    """What a preset file says.

    Attributes:
        separators: What each name stands for; paths as seen from the current folder.
        blend: For each of those names, a weight per source; a source that is missing has none.
        summary: One line.
        recurs: Whether the blend's stems are averaged where a song repeats itself, for which all four are needed.
    """

    separators: Mapping[str, Part]
    blend: Mapping[str, Mapping[str, float]]
    summary: str = ""
    recurs: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources that any row names, if only to say 0."""
        return tuple(source for source in SOURCES if any(source in row for row in self.blend.values()))

    def computed(self, sources: Sequence[str]) -> tuple[str, ...]:
        """Sources that are computed where some are wanted."""
        return SOURCES if self.recurs else tuple(sources)

    def needed(self, sources: Sequence[str]) -> list[str]:
        """Names of the separators that add something to these sources."""
        computed = self.computed(sources)
        return [name for name, row in self.blend.items() if any(row.get(source) for source in computed)]


def read(path: Path) -> PresetFile:
    """What a preset file says; of a weights file, that the one model is all there is.

    Raises:
        ConfigError: It cannot be read, or is no preset file of this version: unknown or missing fields, values of a
            wrong kind, numbers that are not finite. One line that says where.
    """
    if path.name.lower().endswith(WEIGHTS_SUFFIX):
        return PresetFile({path.stem: FilePart(path)}, {path.stem: dict.fromkeys(SOURCES, 1.0)})
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=_without_doubles, parse_constant=_refuse_constant)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:  # of which Unicode errors are some
        raise ConfigError(f"{path}: not a preset file ({error or 'nested too deep'})") from error
    try:
        return _preset_file(content, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def write(path: Path, preset: PresetFile) -> None:
    """Write a preset file, whole or not at all; paths in it are made relative to it where they can be.

    Raises:
        ConfigError: What `read` would refuse.
        WriteFailed: It cannot be written.
    """
    content: dict[str, Any] = {"format": FORMAT, "summary": preset.summary}
    content["separators"] = {name: _written(part, path.parent) for name, part in preset.separators.items()}
    content["blend"] = {name: dict(row) for name, row in preset.blend.items()}
    if preset.recurs:
        content["recurrence"] = True
    try:
        _preset_file(content, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    with replacing(path) as file:
        file.write((json.dumps(content, indent=2, allow_nan=False) + "\n").encode("utf-8"))


def _preset_file(content: Any, folder: Path) -> PresetFile:
    _check_object(content, "the file")
    if content.get("format") != FORMAT:
        raise ConfigError(f'"format" is {content.get("format")!r}; this version reads {FORMAT!r}')
    _check_fields(content, "the file", _FIELDS, optional=("summary", "recurrence"))
    summary = content.get("summary", "")
    if not isinstance(summary, str) or len(summary.splitlines()) > 1:
        raise ConfigError('"summary" must be one line of text')
    _check_object(content["separators"], '"separators"')
    separators = {name: _part(part, f"separator {name!r}", folder) for name, part in content["separators"].items()}
    if not separators:
        raise ConfigError('"separators" names none')
    _check_object(content["blend"], '"blend"')
    _check_fields(content["blend"], '"blend"', tuple(separators))
    blend = {name: _row(row, f"weights of {name!r}") for name, row in content["blend"].items()}
    recurs = content.get("recurrence", False)
    if not isinstance(recurs, bool):
        raise ConfigError('"recurrence" must be true or false')
    preset = PresetFile(separators, blend, summary, recurs)
    if recurs and preset.sources != SOURCES:
        raise ConfigError(f'"recurrence" is for blends of all of {", ".join(SOURCES)}')
    return preset


def _part(content: Any, where: str, folder: Path) -> Part:
    _check_object(content, where)
    kinds = [kind for kind in ("preset", "weights", "file", "plugin", "cascade") if kind in content]
    if len(kinds) != 1:
        raise ConfigError(f"{where}: must have just one of preset, weights, file, plugin, cascade")
    kind = kinds[0]
    extras = _EXTRAS.get(kind, ())
    _check_fields(content, where, (kind, *extras), optional=extras)
    if kind == "cascade":
        return _cascade(content[kind], where, folder)
    name = content[kind]
    if not isinstance(name, str) or not name or "\0" in name:
        raise ConfigError(f"{where}: {kind!r} must be text, not {name!r}")
    if kind == "weights":
        return WeightsPart(name, _settings(content, "config", where))
    if kind == "file":
        return FilePart(folder / name, _settings(content, "config", where))
    if kind == "plugin":
        return PluginPart(name, _settings(content, "options", where))
    return PresetPart(str(folder / name) if is_file_name(name) else name)


def _cascade(content: Any, where: str, folder: Path) -> CascadePart:
    where = f"{where}, cascade"
    _check_object(content, where)
    _check_fields(content, where, ("taken", "first", "rest"))
    taken = content["taken"]
    if (
        not isinstance(taken, list)
        or not taken
        or not all(source in SOURCES for source in taken)
        or len(set(taken)) < len(taken)
    ):
        raise ConfigError(f'{where}: "taken" must be a list of different sources out of {", ".join(SOURCES)}')
    first = _part(content["first"], f"{where}, first", folder)
    return CascadePart(first, _part(content["rest"], f"{where}, rest", folder), tuple(taken))


def _settings(content: Any, kind: str, where: str) -> Settings:
    settings = content.get(kind, {})
    _check_object(settings, f"{where}, {kind}")
    for name, value in settings.items():
        if not isinstance(value, str | int | float | bool):
            raise ConfigError(f"{where}, {kind}: {name!r} must be text, a number, true or false")
        if kind == "options" and name == "device":
            raise ConfigError(f"{where}, {kind}: the device is not chosen here but by --device")
    return dict(settings)


def _row(content: Any, where: str) -> dict[str, float]:
    _check_object(content, where)
    _check_fields(content, where, SOURCES, optional=SOURCES)
    for source, weight in content.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not _is_finite(weight):
            raise ConfigError(f"{where}: {source} must be a finite number, not {weight!r}")
    return {source: float(weight) for source, weight in content.items()}


def is_file_name(name: str) -> bool:
    """Whether a preset's name is the path of a preset file, or of a weights file."""
    return name.lower().endswith((".json", WEIGHTS_SUFFIX))


def _written(part: Part, folder: Path) -> dict[str, Any]:
    if isinstance(part, PresetPart):
        return {"preset": _relative(Path(part.name), folder) if is_file_name(part.name) else part.name}
    if isinstance(part, WeightsPart):
        return {"weights": part.name, **({"config": dict(part.config)} if part.config else {})}
    if isinstance(part, FilePart):
        return {"file": _relative(part.path, folder), **({"config": dict(part.config)} if part.config else {})}
    if isinstance(part, PluginPart):
        return {"plugin": part.name, **({"options": dict(part.options)} if part.options else {})}
    first, rest = _written(part.first, folder), _written(part.rest, folder)
    return {"cascade": {"taken": list(part.taken), "first": first, "rest": rest}}


def _relative(path: Path, folder: Path) -> str:
    import os.path

    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on another drive
        return str(path.absolute())


def _check_object(content: Any, where: str) -> None:
    if not isinstance(content, dict):
        raise ConfigError(f"{where} must be an object, not {type(content).__name__}")


def _check_fields(content: Mapping[str, Any], where: str, known: Sequence[str], optional: Sequence[str] = ()) -> None:
    for name in content:
        if name not in known:
            raise ConfigError(f"{where}: no field {name!r}; there are {', '.join(known)}")
    for name in known:
        if name not in content and name not in optional:
            raise ConfigError(f"{where}: {name!r} is missing")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return content


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")
