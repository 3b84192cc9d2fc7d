"""Weights: where their files are, and whether they are whole.

One file holds one model (`danna_sep.weights.file`). Two registries say which files there are: the one that ships
inside the package, and the user's own under `home()` for what was fetched or imported. A user's entry goes before a
shipped one of its name.
"""

from __future__ import annotations

import importlib.resources
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

from danna_sep.atomic import locked, replacing, sha256_of
from danna_sep.errors import ConfigError, CorruptWeights, MissingWeights, WeightsError
from danna_sep.weights.file import WeightsFile, read, read_header

REGISTRY_FORMAT: Final = "danna-sep-registry/1"
_REGISTRY = "registry.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_GET_ORIGINAL = "`danna-sep weights fetch original` or `danna-sep weights import FILE...`"
# Files whose hash this process has found right: path, size, time of change, hash.
_verified: set[tuple[str, int, int, str]] = set()


class _Unreachable(CorruptWeights):
    """A registry that this user cannot read."""


@dataclass(frozen=True)
class WeightsEntry:
    """A registered weights file; `filename` lies beside the registry."""

    name: str
    model: str
    filename: str
    sha256: str
    n_bytes: int
    licence: str
    origin: str
    note: str = ""


@dataclass(frozen=True)
class Verification:
    """Outcome of checking one registered file: `problem` is None, or the line to show."""

    name: str
    path: Path
    problem: str | None

    @property
    def ok(self) -> bool:
        """Whether the file is there and whole."""
        return self.problem is None


def home() -> Path:
    """Folder of the user's own data: the environment variable DANNA_SEP_HOME, or the system's usual place."""
    chosen = os.environ.get("DANNA_SEP_HOME")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("danna-sep", appauthor=False))


def user_folder() -> Path:
    """Folder in which the user's own weights files and their registry lie."""
    return home() / "weights"


def shipped_folder() -> Path:
    """Folder inside the package in which the shipped weights files and their registry lie."""
    return Path(str(importlib.resources.files("danna_sep"))) / "bundle"


def entries(*, readable: bool = False) -> list[WeightsEntry]:
    """All registered weights, shipped ones first.

    Args:
        readable: leave out the user's own where their registry is damaged.

    Raises:
        CorruptWeights: a registry cannot be read.
    """
    known, problem = _registered()
    if problem is not None and not readable:
        raise problem
    return [entry for entry, _ in known.values()]


def find(name: str) -> Path:
    """Path of the registered weights file `name`, checked: its size always, its SHA-256 once per process.

    Raises:
        MissingWeights: not registered or not there; says how to get it.
        CorruptWeights: size or SHA-256 differ from the registry's.
    """
    entry, folder = _lookup(name)
    path = folder / entry.filename
    if not path.is_file():
        raise MissingWeights(f"{path}: the weights {name!r} are missing; {_remedy(name, folder)}")
    state = path.stat()
    key = (str(path), state.st_size, state.st_mtime_ns, entry.sha256)
    if key not in _verified:
        if state.st_size != entry.n_bytes:
            raise CorruptWeights(f"{path}: {state.st_size} bytes instead of {entry.n_bytes}; {_remedy(name, folder)}")
        if sha256_of(path) != entry.sha256:
            raise CorruptWeights(f"{path}: damaged, its SHA-256 is not the registered one; {_remedy(name, folder)}")
        _verified.add(key)
    return path


def load(name: str) -> WeightsFile:
    """Finds, checks and reads the registered weights `name`; raises as `find` and `read` do."""
    return read(find(name))


def verify(name: str | None = None) -> list[Verification]:
    """Checks size and SHA-256 of one registered file, or of all, reading every byte anew.

    Where the user's own registry is damaged it is one of the results, under its file's name.

    Raises:
        MissingWeights: `name` is not registered.
        CorruptWeights: the registry that should have `name`, or the one that ships, cannot be read.
    """
    known, damage = _registered()
    chosen = list(known.values()) if name is None else [_lookup(name)]
    results = []
    if name is None and damage is not None:
        results.append(Verification(_REGISTRY, user_folder() / _REGISTRY, str(damage)))
    for entry, folder in chosen:
        path = folder / entry.filename
        _verified.difference_update({key for key in _verified if key[0] == str(path)})
        try:
            find(entry.name)
            problem = None
        except (WeightsError, OSError) as error:
            problem = str(error)
        results.append(Verification(entry.name, path, problem))
    return results


def record(
    name: str, path: Path | str, *, licence: str | None = None, origin: str | None = None, note: str | None = None
) -> WeightsEntry:
    """Registers a weights file that lies in `user_folder()`, in place of an earlier entry of the same name.

    Args:
        name: what `find` will know it by, e.g. "original-demucs".
        path: the file, as `write` makes it.
        licence: of the weights; by default what the file's header says. So too `origin` and `note`.
        origin: who made them, and where they come from.
        note: one line for listings.

    Raises:
        ConfigError: the name is not a plain one, or the file lies elsewhere.
        MissingWeights, CorruptWeights: there is no such file, or it is no weights file.
        WriteFailed: the registry cannot be written.
    """
    path, folder = Path(path), user_folder()
    if path.resolve().parent != folder.resolve():
        raise ConfigError(f"{path}: only files in {folder} can be registered; write it there")
    entry = _described(name, path, {"licence": licence, "origin": origin, "note": note})
    registry = folder / _REGISTRY
    with locked(folder / f"{_REGISTRY}.lock"):
        # Read again under the lock: another process may have added its own entry since.
        kept = [other for other in _read_registry(registry) if other.name != name]
        _write_registry(registry, [*kept, entry])
    return entry


def register_shipped(folder: Path | str) -> list[WeightsEntry]:
    """Writes the registry of the weights that ship, from all `*.safetensors` in `folder`, named by their file.

    Raises:
        ConfigError: a file's header says nothing on its licence or origin, without which it must not ship.
        CorruptWeights: a file is no weights file.
        WriteFailed: the registry cannot be written.
    """
    folder = Path(folder)
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        entry = _described(path.stem, path, {})
        if not entry.licence or not entry.origin:
            raise ConfigError(f"{path}: the header must say 'licence' and 'origin' before the file may ship")
        read(path)
        found.append(entry)
    _write_registry(folder / _REGISTRY, found)
    return found


def _described(name: str, path: Path, notes: Mapping[str, str | None]) -> WeightsEntry:
    """The registry's entry for a file, by its header where `notes` are silent."""
    for label in (name, path.name):
        if not _NAME.fullmatch(label):
            raise ConfigError(f"{label!r} cannot name weights; use letters, digits, dots, dashes and underscores")
    model, _, header = read_header(path)
    said = {key: notes.get(key) or header.get(key, "") for key in ("licence", "origin", "note")}
    return WeightsEntry(name, model, path.name, sha256_of(path), path.stat().st_size, **said)


def _registered() -> tuple[dict[str, tuple[WeightsEntry, Path]], CorruptWeights | None]:
    """Entry and folder by name, and what is wrong with the user's own registry: what ships needs nothing of it."""
    shipped, own = shipped_folder(), user_folder()
    users: list[WeightsEntry] = []
    problem = None
    try:
        users = _read_registry(own / _REGISTRY)
    except _Unreachable:  # as in a container whose user may not enter the home folder
        pass
    except CorruptWeights as error:
        problem = error
    by_folder = ((shipped, _read_registry(shipped / _REGISTRY)), (own, users))
    return {entry.name: (entry, folder) for folder, found in by_folder for entry in found}, problem


def _lookup(name: str) -> tuple[WeightsEntry, Path]:
    known, damage = _registered()
    if name not in known and damage is not None:
        raise damage
    if name not in known:
        if name.startswith("original"):
            advice = f"fetch or import them: {_GET_ORIGINAL}"
        else:
            advice = f"choose one of {', '.join(known)}" if known else "reinstall danna-sep"
        raise MissingWeights(f"no weights {name!r} on this machine; {advice}")
    return known[name]


def _remedy(name: str, folder: Path) -> str:
    if name.startswith("original") or folder != shipped_folder():
        return f"fetch or import them again: {_GET_ORIGINAL}"
    return "reinstall danna-sep"


def _read_registry(path: Path) -> list[WeightsEntry]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != REGISTRY_FORMAT:
            raise CorruptWeights(f"{path}: of the unknown format {content['format']!r}; upgrade danna-sep")
        return [_checked(WeightsEntry(**item)) for item in content["entries"]]
    except FileNotFoundError:
        return []
    except OSError as error:
        reason = error.strerror or error
        raise _Unreachable(f"{path}: cannot be read ({reason}); DANNA_SEP_HOME names another folder") from error
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptWeights(f"{path}: not a registry of weights; remove it and import the weights again") from error


def _checked(entry: WeightsEntry) -> WeightsEntry:
    """The entry if its values are of the right kinds and it stays inside its folder, else ValueError."""
    texts = all(isinstance(getattr(entry, f.name), str) for f in fields(entry) if f.name != "n_bytes")
    if not texts or not isinstance(entry.n_bytes, int) or not _SHA256.fullmatch(entry.sha256):
        raise ValueError(entry)
    if not _NAME.fullmatch(entry.name) or not _NAME.fullmatch(entry.filename):
        raise ValueError(entry)
    return entry


def _write_registry(path: Path, listed: list[WeightsEntry]) -> None:
    content = {"format": REGISTRY_FORMAT, "entries": [asdict(e) for e in sorted(listed, key=lambda e: e.name)]}
    with replacing(path) as file:
        file.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))
