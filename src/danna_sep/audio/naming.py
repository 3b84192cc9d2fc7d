"""Where each stem of each input goes, settled before anything is computed."""

from __future__ import annotations

import os
import string
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from danna_sep.errors import ConfigError, OutputCollision

DEFAULT_TEMPLATE: Final = "{track}/{stem}.{ext}"
_MAX_NAME_BYTES: Final = 255


def output_paths(
    inputs: Sequence[Path],
    out_dir: Path,
    template: str = DEFAULT_TEMPLATE,
    stems: Iterable[str] = (),
    extension: str = "wav",
    extra: Mapping[str, str] | None = None,
) -> dict[Path, dict[str, Path]]:
    """Name the outputs of all inputs.

    Args:
        inputs: The audio files.
        out_dir: The folder that holds all outputs.
        template: Path below `out_dir`, with the fields {track} (the input's name without its ending), {stem}, {ext}
            and those of `extra`.
        stems: Names of the stems.
        extension: Ending of the outputs, without dot.
        extra: More fields and their values, such as preset.

    Returns:
        For each input, for each stem, a path.

    Raises:
        ConfigError: A template that is not understood, leaves `out_dir`, or makes a name that is too long.
        OutputCollision: Two outputs under one name (capital letters and the ways to write an accent do not count as
            different, as some file systems do not tell them apart), or an output that is one of the inputs.
    """
    stems = list(stems)
    fields = dict(extra or {})
    _check_template(template, {"track", "stem", "ext", *fields})
    taken: dict[str, tuple[Path, str]] = {}
    sources = {identity: path for path in inputs if (identity := _identity(path)) is not None}
    outputs: dict[Path, dict[str, Path]] = {}
    for path in inputs:
        outputs.setdefault(path, {})
        for stem in stems:
            values = {**fields, "track": path.stem, "stem": stem, "ext": extension}
            output = _place(template.format_map(values), out_dir, template, path)
            key = _comparable(output)
            if key in taken:
                _refuse_collision(path, stem, *taken[key], output)
            taken[key] = (path, stem)
            existing = _identity(output)
            source = None if existing is None else sources.get(existing)
            if source is not None:
                raise OutputCollision(
                    f"{source}: the {stem} of {path} would be written over it; "
                    "choose another output folder or --name-template"
                )
            outputs[path][stem] = output
    return outputs


def _check_template(template: str, known: set[str]) -> None:
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"--name-template {template}: {error}") from None
    for _, field, spec, conversion in parsed:
        if field is None:
            continue
        if field not in known or spec or conversion:
            fields = ", ".join(f"{{{name}}}" for name in sorted(known))
            raise ConfigError(f"--name-template {template}: unknown field {{{field}}}; there are {fields}")


def _place(name: str, out_dir: Path, template: str, source: Path) -> Path:
    relative = Path(name)
    if relative.is_absolute() or relative.drive or ".." in relative.parts or not relative.parts:
        raise ConfigError(
            f"{source}: --name-template {template} gives {name or 'nothing'}, which is outside the output folder"
        )
    if name.endswith(("/", os.sep)) or "\0" in name:
        raise ConfigError(f"{source}: --name-template {template} gives {name!r}, which is no file name")
    for part in relative.parts:
        if len(os.fsencode(part)) > _MAX_NAME_BYTES:
            raise ConfigError(
                f"{source}: --name-template {template} gives a name of more than {_MAX_NAME_BYTES} bytes; "
                "choose a shorter template or rename the input"
            )
    return out_dir / relative


def _comparable(path: Path) -> str:
    """Equal for paths that some file system takes for the same."""
    parts = Path(os.path.abspath(path)).parts  # noqa: PTH100  (outputs do not exist yet; links are compared elsewhere)
    if sys.platform == "win32":
        parts = tuple(part.rstrip(". ") for part in parts)
    folded = unicodedata.normalize("NFC", "/".join(parts)).casefold()
    return unicodedata.normalize("NFC", folded)


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of an existing file, links followed."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _refuse_collision(path: Path, stem: str, other: Path, other_stem: str, output: Path) -> None:
    if path == other and stem == other_stem:
        raise OutputCollision(f"{path}: is given twice; give each input once")
    if path == other:
        raise OutputCollision(
            f"{path}: {other_stem} and {stem} would both be {output}; put {{stem}} into --name-template"
        )
    raise OutputCollision(
        f"{other} and {path}: both would be written to {output}; "
        "choose a --name-template that tells them apart, or separate them one by one"
    )
