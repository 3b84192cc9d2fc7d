"""The format of a weights file: safetensors with a header that says what the entries are.

The header holds the format's version, the kind of model and its configuration, and free notes such as licence and
origin. Where the files lie and whether they are whole is the business of `registry`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from danna_sep.atomic import replacing
from danna_sep.errors import ConfigError, CorruptWeights, MissingWeights
from danna_sep.weights.eight_bits import N_STEPS, SCALE, restored, rounded

if TYPE_CHECKING:
    import torch

FORMAT: Final = "danna-sep/1"
"""Version of the weights files, in their header."""

_SCALED_FORMAT: Final = "danna-sep/2"
"""The same with integers of eight bits that have scales beside them, which older versions cannot read."""

_MAPPED_BYTES = 2**25
"""About how much of a file is mapped into memory at a time."""

_HEADER_KEYS = ("format", "model", "config")
DTYPES: Final = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
"""Types of numbers that can be stored, by PyTorch's names."""


@dataclass(frozen=True, eq=False)
class WeightsFile:
    """What a weights file holds: kind of model, its configuration, its entries, and free notes."""

    model: str
    config: dict[str, Any]
    entries: dict[str, torch.Tensor]
    metadata: dict[str, str]


def write(
    path: Path | str,
    *,
    model: str,
    config: Mapping[str, Any],
    entries: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    dtype: torch.dtype | None = None,
    n_steps: float = N_STEPS,
) -> str:
    """Writes a weights file, whole or not at all; equal arguments give equal bytes.

    Args:
        path: the file, replaced if it exists.
        model: kind of model, e.g. "xumx".
        config: the model's configuration; must survive JSON.
        entries: the model's state dict.
        metadata: free notes such as licence, origin, made_by.
        dtype: stores floating-point entries of two axes or more in this type, e.g. torch.float16, or torch.int8 for
            `eight_bits`; integers stay as they are, and so do vectors, which are small and range widely (variances of
            batch norms).
        n_steps: of eight bits, from nothing to each row's largest value; up to 127.

    Returns:
        The file's SHA-256.

    Raises:
        ConfigError: config, metadata or an entry's type cannot be stored, a value is too large for `dtype`, or there
            cannot be as many steps.
        CorruptWeights: an entry holds NaN or infinite values.
        WriteFailed: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    if not 1 <= n_steps <= N_STEPS:
        raise ConfigError(f"{path}: eight bits have 1 to {N_STEPS:g} steps, not {n_steps:g}")
    stored: dict[str, torch.Tensor] = {}
    for name in entries:
        stored.update(_storable(path, name, entries[name], dtype, n_steps))
    is_scaled = any(name.endswith(SCALE) for name in stored)
    # Widest values first keeps every tensor aligned, as the format's readers like it.
    order = sorted(stored, key=lambda name: (-stored[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": _metadata(path, model, config, metadata, is_scaled)}
    position = 0
    for name in order:
        end = position + stored[name].numel() * stored[name].element_size()
        kind = DTYPES[str(stored[name].dtype).removeprefix("torch.")]
        header[name] = {"dtype": kind, "shape": list(stored[name].shape), "data_offsets": [position, end]}
        position = end
    # The safetensors library shuffles the header, so that equal weights would get different hashes.
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with replacing(path) as file:
        blocks = itertools.chain([len(text).to_bytes(8, "little"), text], (_bytes_of(stored[name]) for name in order))
        for block in blocks:
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _metadata(
    path: Path, model: str, config: Mapping[str, Any], notes: Mapping[str, str], is_scaled: bool
) -> dict[str, str]:
    for key, value in notes.items():
        if key in _HEADER_KEYS or not isinstance(key, str) or not isinstance(value, str):
            raise ConfigError(
                f"{path}: metadata {key!r} must be text under a name other than {', '.join(_HEADER_KEYS)}"
            )
    try:
        text = json.dumps(dict(config), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: the configuration cannot be stored as JSON ({error})") from error
    version = _SCALED_FORMAT if is_scaled else FORMAT
    return {"format": version, "model": model, "config": text, **dict(sorted(notes.items()))}


def _storable(
    path: Path, name: str, tensor: torch.Tensor, dtype: torch.dtype | None, n_steps: float
) -> dict[str, torch.Tensor]:
    import torch

    _require_finite(path, name, tensor)
    if not tensor.is_floating_point() or tensor.ndim < 2 or not tensor.numel():
        dtype = None
    is_scaled = dtype == torch.int8
    cast = tensor.detach().to(device="cpu", dtype=None if is_scaled else dtype)
    if str(cast.dtype).removeprefix("torch.") not in DTYPES or name == "__metadata__" or name.endswith(SCALE):
        raise ConfigError(f"{path}: entry {name!r} of type {cast.dtype} cannot be stored")
    if is_scaled:
        integers, scale = rounded(cast, n_steps)
        return {name: integers, f"{name}{SCALE}": scale}
    if not bool(torch.isfinite(cast).all()):
        raise ConfigError(f"{path}: entry {name!r} has values too large for {dtype}; store it as float32")
    return {name: cast.contiguous()}


def _bytes_of(tensor: torch.Tensor) -> bytes:
    import torch

    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def _require_finite(path: Path, name: str, tensor: torch.Tensor) -> None:
    import torch

    # The extremes tell, in place of a truth value for each of what may be a hundred million numbers.
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    if not real.is_floating_point() or not real.numel():
        return
    if not bool(torch.isfinite(torch.stack(real.aminmax())).all()):
        raise CorruptWeights(f"{path}: entry {name!r} holds NaN or infinite values; the weights are broken")


def read(path: Path | str, dtypes: Mapping[str, torch.dtype] | None = None) -> WeightsFile:
    """Reads a weights file.

    Args:
        path: the file.
        dtypes: type in which an entry is wanted; others come as float32 if they are floating-point, else in their own.

    Raises:
        MissingWeights: there is no such file.
        CorruptWeights: not a weights file of a known version, damaged, or with NaN or infinite values.
    """
    path = Path(path)
    model, config, notes = read_header(path)
    return WeightsFile(model, config, dict(_entries(path, dtypes or {})), notes)


def _entries(path: Path, dtypes: Mapping[str, torch.dtype]) -> Iterator[tuple[str, torch.Tensor]]:
    """One entry after the other; the file is mapped anew for each large one, lest all its pages stay in memory."""
    import torch
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
        left = [name for name in names if name.removesuffix(SCALE) not in names or not name.endswith(SCALE)]
        while left:
            with safe_open(path, framework="pt") as file:
                n_bytes = 0
                while left and n_bytes < _MAPPED_BYTES:
                    name = left.pop(0)
                    tensor = file.get_tensor(name)
                    n_bytes += tensor.nbytes
                    if f"{name}{SCALE}" in names:
                        tensor = restored(tensor, file.get_tensor(f"{name}{SCALE}"))
                    kind = dtypes.get(name, torch.float32 if tensor.is_floating_point() else tensor.dtype)
                    converted = tensor.to(kind, copy=True)  # a copy, for the original may be the file itself
                    # Also what the narrower type cannot hold is infinite; and integers hide what was no number.
                    _require_finite(path, name, converted if kind.is_floating_point else tensor)
                    yield name, converted
    except CorruptWeights:
        raise
    except Exception as error:  # the library's own exception is not public in all its versions
        raise CorruptWeights(f"{path}: its entries cannot be read; fetch or import it again") from error


def read_header(path: Path) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Kind of model, configuration and free notes, without reading the entries or needing torch."""
    try:
        is_there = path.exists()
    except OSError as error:  # as for names that are too long
        raise MissingWeights(f"{path}: cannot be looked for ({error.strerror or error}); check the path") from error
    if not is_there:
        raise MissingWeights(f"{path}: no such file; check the path, or fetch or import the weights")
    from safetensors import safe_open

    try:
        with safe_open(path, framework="np") as file:
            notes = dict(file.metadata() or {})
    except Exception as error:  # the library's own exception is not public in all its versions
        raise CorruptWeights(f"{path}: not a weights file, or damaged; fetch or import it again") from error
    known = FORMAT, _SCALED_FORMAT
    if notes.get("format", FORMAT) not in known:
        raise CorruptWeights(
            f"{path}: of format {notes['format']!r}, this version reads {' and '.join(known)}; upgrade danna-sep"
        )
    for key in _HEADER_KEYS:
        if key not in notes:
            raise CorruptWeights(f"{path}: the header has no {key!r}; if it is a checkpoint, import it")
    try:
        config = json.loads(notes["config"])
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise CorruptWeights(f"{path}: the header's configuration is not a JSON object; fetch or import it again")
    model = notes["model"]
    return model, config, {key: value for key, value in notes.items() if key not in _HEADER_KEYS}
