"""What the authors of Danna-Sep released: checkpoints, from where they released them, and blend weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from danna_sep.atomic import locked, replacing
from danna_sep.errors import CorruptWeights, DownloadFailed, OutputExists, WeightsError
from danna_sep.weights.download import WrongHash, download

RECORD: Final = "original.json"
"""Beside the fetched files: what was fetched first, by which later fetches are judged."""


@dataclass(frozen=True)
class Released:
    """A released file: its name, and where it is."""

    filename: str
    url: str


ORIGINAL: Final[Mapping[str, Released]] = {
    "xumx": Released("xumx_mwf.pth", "https://drive.google.com/uc?id=1DCTJQ1ei4klR9L69fjbBGILMdJAoNN78"),
    "unet": Released("unet_attention.pth", "https://drive.google.com/uc?id=1qzBbT8UIKKWNMs-kiB3MNHGccdwdBJVf"),
    "demucs": Released("demucs_4_decoders.pth", "https://drive.google.com/uc?id=1slSKOd7P-YmJ0HnjzaTOKQaOn3pQN0Ge"),
}
"""The three models by Chin-Yun Yu and Kin-Wai Cheuk (yoyololicon/danna-sep). Its setup says MIT; no licence file."""

ORIGINAL_BLEND: Final[Mapping[str, tuple[float, ...]]] = {
    "xumx": (0.2, 0.1, 0.0, 0.2),
    "unet": (0.2, 0.17, 0.5, 0.4),
    "demucs": (0.6, 0.73, 0.5, 0.4),
}
"""Weight of each model in drums, bass, other and vocals.

The authors' slides print 0.2 for X-UMX on bass, with which that column would sum to 1.1; the released system has 0.1.
"""
ORIGINAL_FAST_BLEND: Final[Mapping[str, tuple[float, ...]]] = {
    "unet": (0.4, 0.27, 0.5, 0.6),
    "demucs": (0.6, 0.73, 0.5, 0.4),
}
"""The same in the fast mode."""


def fetch_original(
    folder: Path | str,
    *,
    released: Mapping[str, Released] = ORIGINAL,
    accept: Callable[[Path], object] | None = None,
    progress: Callable[[str, int, int | None], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    timeout_s: float = 30.0,
    retries: int = 4,
    backoff_s: float = 1.0,
) -> dict[str, Path]:
    """Downloads the released checkpoints that are not in `folder` yet.

    The authors published no hashes, so the first download of each file is trusted and its SHA-256 noted in
    `original.json`; ever after a file counts, and a new download is accepted, only if it has that hash.

    Args:
        folder: where the files go, under their own names; made if need be.
        released: which files, by model.
        accept: called with each file; if it raises WeightsError, a file that is not on record yet is removed again.
        progress: called with the file's name, its bytes so far and in all.
        cancel: asked often; true stops.
        timeout_s: longest silence of the server, s.
        retries: see `download`.
        backoff_s: see `download`.

    Returns:
        The file of each model.

    Raises:
        WeightsError, OutputExists: what `accept` raised; after the latter the file is kept.
        DownloadFailed: a file cannot be had, or is another than at the first download.
        CorruptWeights: `original.json` cannot be read.
        WriteFailed: the folder cannot be written, or the disk is too small.
        Cancelled: `cancel()` was true.
    """
    folder = Path(folder)
    record = folder / RECORD
    paths = {}
    with locked(folder / f"{RECORD}.lock", cancel=cancel):
        known = _read_record(record)
        for model, file in released.items():
            name = file.filename
            path = paths[model] = folder / name

            def report(n_done: int, n_bytes: int | None, name: str = name) -> None:
                if progress is not None:
                    progress(name, n_done, n_bytes)

            try:
                sha256 = download(
                    file.url,
                    path,
                    sha256=known[name]["sha256"] if name in known else None,
                    progress=report,
                    cancel=cancel,
                    timeout_s=timeout_s,
                    retries=retries,
                    backoff_s=backoff_s,
                )
            except WrongHash as error:
                raise DownloadFailed(
                    f"{error}; it is not the file of the first download, so it was refused: if you trust the new one,"
                    f" take {name} out of {record}"
                ) from error
            if accept is not None:
                try:
                    accept(path)
                except OutputExists:  # the file itself is what it should be
                    _note(record, known, path, sha256, file.url)
                    raise
                except WeightsError:
                    if name not in known:
                        path.unlink(missing_ok=True)
                    raise
            _note(record, known, path, sha256, file.url)
    return paths


def _note(record: Path, known: dict[str, dict[str, Any]], path: Path, sha256: str, url: str) -> None:
    if path.name in known:
        return
    known[path.name] = {"sha256": sha256, "n_bytes": path.stat().st_size, "url": url}
    with replacing(record) as noted:
        noted.write((json.dumps(known, indent=2) + "\n").encode("utf-8"))


def _read_record(path: Path) -> dict[str, dict[str, Any]]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(item["sha256"], str) for item in known.values()):
            raise TypeError(known)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CorruptWeights(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptWeights(f"{path}: not the record of fetched files; remove it and fetch again") from error
    return {str(name): item for name, item in known.items()}
