"""The folder of one training: what it was told, what it wrote.

run.json             recipe, seed, data, versions: what makes the training repeatable; the network's whole configuration
log.jsonl            what happened, one JSON object a line
tensorboard/         losses, learning rate, SDR, audio of one song
state.safetensors    where it is, to go on from
last.safetensors     weights after the last epoch, as `separate` uses them
best.safetensors     weights of the epoch with the best validation SDR
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import torch

from danna_sep import __version__
from danna_sep.atomic import replacing, sha256_of
from danna_sep.errors import ConfigError
from danna_sep.songs import Song
from danna_sep.training.recipe import Recipe, to_json

RUN: Final = "run.json"
LOG: Final = "log.jsonl"
STATE: Final = "state.safetensors"
LAST: Final = "last.safetensors"
BEST: Final = "best.safetensors"

_LONGEST_RECORD: Final = 2**16
"""Bytes of the log's last line, at most."""

_FORMAT: Final = "danna-sep run/1"
_MUST_AGREE: Final = ("recipe", "seed", "init", "songs", "valid_songs", "n_processes")


def fingerprint(songs: Sequence[Song]) -> str:
    """SHA-256 of the songs' names and odds, and the names, lengths in bytes and places of their files."""
    listing = [
        [
            song.name,
            *([] if song.odds == 1 else [song.odds]),
            sorted(song.silent),
            {
                part: [[file.path.name, file.path.stat().st_size, file.stream] for file in files]
                for part, files in sorted(song.files.items())
            },
        ]
        for song in songs
    ]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def told(
    recipe: Recipe,
    songs: Sequence[Song],
    valid_songs: Sequence[Song],
    *,
    seed: int,
    init: Path | None,
    n_processes: int,
) -> dict[str, Any]:
    """What a training is told, as run.json has it."""
    return {
        "format": _FORMAT,
        "recipe": to_json(recipe),
        "seed": seed,
        "init": None if init is None else sha256_of(init),
        "songs": {"names": [song.name for song in songs], "sha256": fingerprint(songs)},
        "valid_songs": {"names": [song.name for song in valid_songs], "sha256": fingerprint(valid_songs)},
        "n_processes": n_processes,
        "versions": {
            "danna_sep": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
        },
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def check_run(folder: Path, asked: Mapping[str, Any]) -> None:
    """See that a folder, if there is one, is that of the training that was told so; nothing is written.

    Raises:
        ConfigError: Another training's folder; the message tells what differs.
    """
    path = folder / RUN
    if not path.exists():
        return
    try:
        found = json.loads(path.read_bytes())
        differing = [key for key in _MUST_AGREE if found.get(key) != asked[key]]
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); choose another --out") from error
    if differing:
        raise ConfigError(
            f"{folder}: holds another training, with {_difference(found, asked, differing[0])}; choose another --out"
        )


def open_run(folder: Path, asked: Mapping[str, Any]) -> None:
    """Make the folder, or leave it as it is but for a line of the log that was torn when the training was killed.

    Raises:
        WriteFailed: It cannot be written.
    """
    if not (folder / RUN).exists():
        with replacing(folder / RUN) as file:
            file.write(json.dumps(asked, indent=1).encode())
    if (folder / LOG).exists():
        with (folder / LOG).open("r+b") as log:
            n_bytes = log.seek(0, os.SEEK_END)
            begin = log.seek(max(0, n_bytes - _LONGEST_RECORD))
            log.truncate(begin + log.read().rfind(b"\n") + 1)


def append_log(folder: Path, record: Mapping[str, Any]) -> None:
    """Add a line to the log; numbers that are none become null."""
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(without_nan(dict(record))) + "\n")


def without_nan(value: Any) -> Any:
    """The same with None for every nan, at any depth, as JSON wants it."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _difference(found: Mapping[str, Any], asked: Mapping[str, Any], key: str) -> str:
    before, now = found.get(key), asked[key]
    if isinstance(before, dict) and isinstance(now, dict) and key == "recipe":
        inner = next(each for each in now if before.get(each) != now[each])
        return f"{inner} {before.get(inner)!r} instead of {now[inner]!r}"
    if key in ("songs", "valid_songs"):
        return "other songs" if key == "songs" else "other songs to validate on"
    return f"{key} {before!r} instead of {now!r}"
