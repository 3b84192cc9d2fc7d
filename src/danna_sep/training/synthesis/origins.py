"""Where free recordings come from: the banks that may train weights, their licences and the credits they ask for."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any


@dataclass(frozen=True)
class Origin:
    """A bank of recordings, or a soundfont.

    Attributes:
        bank: Its name.
        licence: Under which it is given.
        attribution: The credit it asks for, or what one may say all the same.
        where: Patterns of its files below the folder of recordings, without their endings; none for a soundfont.
    """

    bank: str
    licence: str
    attribution: str
    where: tuple[str, ...] = ()

    def has(self, path: PurePosixPath) -> bool:
        """Whether a path, relative to the folder of recordings, is a file of this bank."""
        return any(matches(path, pattern) for pattern in self.where)


def matches(path: PurePosixPath, pattern: str) -> bool:
    """Whether a path, with or without its ending, is as a pattern says from its first part to its last."""
    if len(path.parts) != pattern.count("/") + 1:
        return False
    return path.match(pattern) or path.with_suffix("").match(pattern)


@functools.cache
def recorded() -> tuple[Origin, ...]:
    """The banks that may be used, all of them CC0, public domain, MIT, BSD or CC BY: no other file is ever opened."""
    return tuple(
        Origin(entry["bank"], entry["licence"], entry["attribution"], tuple(entry["where"]))
        for entry in _contents()["recordings"]
    )


def of_soundfont(path: Path) -> Origin:
    """The origin of a soundfont by the name of its file; one that the user brought has no licence that we know."""
    for entry in _contents()["soundfonts"]:
        if entry["file"] == path.name:
            return Origin(entry["bank"], entry["licence"], entry["attribution"])
    return Origin(f"soundfont {path.name}", "unknown", "see what came with the soundfont")


def known_soundfonts() -> tuple[str, ...]:
    """Names of the soundfonts that are looked for."""
    return tuple(entry["file"] for entry in _contents()["soundfonts"])


@functools.cache
def _contents() -> dict[str, Any]:
    text = resources.files(__package__ or "").joinpath("origins.json").read_text("utf-8")
    contents: dict[str, Any] = json.loads(text)
    return contents
