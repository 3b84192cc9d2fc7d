"""The folder that songs are written into: names, one song at a time whole or not at all, where all came from."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from danna_sep import audio
from danna_sep.atomic import locked, replacing
from danna_sep.errors import Cancelled, OutputCollision, WriteFailed
from danna_sep.training.synthesis.origins import Origin
from danna_sep.training.synthesis.song import Song
from danna_sep.types import SAMPLE_RATE, SOURCES

SHEET_NAME: Final = "song.json"
"""Beside a song's stems: seed, index, length, tempo, meter, sections, and what it was made from."""

ORIGINS_NAME: Final = "origins.json"
"""Beside the songs: licences and attributions of all that they were ever made from."""

_HIDDEN: Final = ".danna-sep-song-"
_LOCK: Final = ".danna-sep-synthesis.lock"
_SLOT: Final = "rolling-"


def song_name(seed: int, index: int) -> str:
    """The folder of a song that stays."""
    return f"synthetic-{seed}-{index:06d}"


def slot_name(slot: int) -> str:
    """The folder of one of the songs that are replaced in turn."""
    return f"{_SLOT}{slot:04d}"


@contextmanager
def held(out: Path) -> Iterator[None]:
    """The folder for this process alone, made if need be; what a killed one left half-written is removed.

    Raises:
        OutputCollision: Another process writes songs into it.
        WriteFailed: It cannot be written.
    """
    taken = False
    try:
        with locked(out / _LOCK, cancel=lambda: True):
            taken = True
            for left in out.glob(f"{_HIDDEN}*"):
                shutil.rmtree(left, ignore_errors=True)
            yield
    except Cancelled:
        if taken:
            raise
        raise OutputCollision(f"{out}: another process writes songs into it; choose another folder") from None


def put(out: Path, name: str, song: Song, seed: int, index: int) -> None:
    """Write a song: a new one appears with all its stems at once; one that is there is replaced stem by stem.

    While one is replaced there is never a stem missing, but for a moment stems of both can stand side by side.

    Args:
        out: Folder of songs.
        name: The song's folder in it.
        song: What is written, as 16-bit FLAC.
        seed: For its sheet, as is `index`.
        index: Of the song.

    Raises:
        WriteFailed: Nothing was changed, unless replacing had begun.
    """
    hidden = out / f"{_HIDDEN}{secrets.token_hex(8)}"
    files = {source: hidden / f"{source}.flac" for source in SOURCES}
    try:
        with audio.StemWriter(
            files,
            sample_rate=SAMPLE_RATE,
            n_channels=2,
            n_frames=song.stems[SOURCES[0]].shape[1],
            format="flac",
            bits="16",
        ) as writer:
            writer.write(song.stems)
            writer.commit()
        (hidden / SHEET_NAME).write_text(json.dumps(_sheet(song, seed, index), indent=1) + "\n", "utf-8")
        final = out / name
        if not final.exists():
            hidden.rename(final)
        else:
            for source in SOURCES:
                files[source].replace(final / f"{source}.flac")
            (hidden / SHEET_NAME).replace(final / SHEET_NAME)
    except OSError as error:
        raise WriteFailed(f"{out / name}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def next_index(out: Path) -> int:
    """The index after the newest of the songs that are replaced in turn; 0 if there are none."""
    sheets = (sheet_of(path) for path in out.glob(f"{_SLOT}*") if path.is_dir())
    return max((sheet["index"] + 1 for sheet in sheets if sheet is not None), default=0)


def drop_slots(out: Path, n_kept: int) -> None:
    """Remove the songs of slots from `n_kept` on, which an earlier run with more of them left.

    Raises:
        WriteFailed: One cannot be removed.
    """
    for path in out.glob(f"{_SLOT}*"):
        number = path.name.removeprefix(_SLOT)
        if not number.isdigit() or int(number) < n_kept:
            continue
        hidden = out / f"{_HIDDEN}{secrets.token_hex(8)}"
        try:
            path.rename(hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            raise WriteFailed(f"{path}: cannot be removed ({error.strerror or error})") from error


def sheet_of(folder: Path) -> dict[str, Any] | None:
    """What stands beside a song's stems; None without."""
    try:
        sheet: dict[str, Any] = json.loads((folder / SHEET_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return sheet if isinstance(sheet.get("index"), int) else None


def note_origins(out: Path, used: Iterable[Origin]) -> None:
    """Add to the folder's list of origins those that are not in it.

    Raises:
        WriteFailed: It cannot be written, or what is there is no such list; whom to credit would be lost with it.
    """
    path = out / ORIGINS_NAME
    entries: dict[str, dict[str, str]] = {}
    try:
        for entry in json.loads(path.read_text("utf-8"))["origins"]:
            if not isinstance(entry["bank"], str):
                raise TypeError(entry)
            entries[entry["bank"]] = entry
    except FileNotFoundError:
        pass
    except OSError as error:
        raise WriteFailed(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise WriteFailed(f"{path}: damaged, or no list of what songs were made from; move it elsewhere") from error
    new = {origin.bank: _entry(origin) for origin in used if origin.bank not in entries}
    if not new and path.exists():
        return
    content = {
        "note": "What the songs in this folder were made from. Drums, basses and synthesisers that are computed need "
        "no entry.",
        "origins": [entry for _, entry in sorted({**entries, **new}.items())],
    }
    with replacing(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def _entry(origin: Origin) -> dict[str, str]:
    return {"bank": origin.bank, "licence": origin.licence, "attribution": origin.attribution}


def _sheet(song: Song, seed: int, index: int) -> dict[str, Any]:
    plan = song.plan
    return {
        "seed": seed,
        "index": index,
        "length_s": plan.length_s,
        "beat_s": plan.beat_s,
        "beats_per_bar": plan.beats_per_bar,
        "swing": plan.swing,
        "sections": [asdict(section) for section in plan.sections],
        **({"score": song.score} if song.score else {}),
        "made_from": [origin.bank for origin in song.credits],
    }
