"""The parameters and buffers of a TorchScript archive, read without running anything that it holds.

`torch.jit.load` is no safe way to open a stranger's file: a module's `__setstate__` in it is a program, which runs
while loading and has operations that make files. Here the archive is only data: a list of instructions
(`data.pkl`) of which the few are followed that build modules, tensors and plain values, and every other one refused.
"""

from __future__ import annotations

import math
import pickletools
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_MAX_SOURCE_BYTES = 1 << 26
_MAX_DEPTH = 100
_CLASS = re.compile(r"^class (\w+)\(Module\):$", re.MULTILINE)
_NAMES = re.compile(r"^  __(?:parameters|buffers)__ = \[(.*)\]$", re.MULTILINE)
_MARK = object()

_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"),
}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_LISTS = {f"torch.jit._pickle build_{kind}list" for kind in ("int", "double", "bool", "tensor")}
_STORAGES = {
    "Float": "float32",
    "Double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
}


class NotTorchScript(Exception):
    """The archive holds what no archive of plain parameters needs, or is damaged."""


@dataclass
class _Global:
    """A name that the instructions mention; never looked up anywhere."""

    name: str


@dataclass
class _Module:
    """A module object: its class's name and its attributes."""

    class_name: str
    attributes: dict[str, Any] = field(default_factory=dict)


def is_torchscript(path: Path) -> bool:
    """Whether the file is a zip archive with the records that only TorchScript writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(name).name == "constants.pkl" for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return False


def read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    """Parameters and buffers under the names which the module's `state_dict()` gives them; views may share memory.

    Raises:
        NotTorchScript: with a few words on what is wrong; damaged archives may raise other exceptions too.
    """
    with zipfile.ZipFile(path) as archive:
        found = [name for name in archive.namelist() if PurePosixPath(name).name == "data.pkl"]
        if len(found) != 1:
            raise NotTorchScript("holds no single data.pkl")
        root = found[0].removesuffix("data.pkl")
        records = set(archive.namelist())
        if f"{root}byteorder" in records and archive.read(f"{root}byteorder") != b"little":
            raise NotTorchScript("was written on a big-endian machine")
        if archive.getinfo(found[0]).compress_type != zipfile.ZIP_STORED:
            raise NotTorchScript("has a compressed data.pkl")
        top = _Reader(archive, root).run(archive.read(found[0]))
        return dict(_walk(top, "", _state_names(archive, root), ()))


class _Reader:
    """Follows the instructions of one `data.pkl`."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        self.archive = archive
        self.root = root
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, torch.Tensor] = {}

    def run(self, instructions: bytes) -> Any:
        """The object that the instructions build."""
        for opcode, argument, _ in pickletools.genops(instructions):
            if opcode.name == "STOP":
                return self.stack.pop()
            self._step(opcode.name, argument)
        raise NotTorchScript("ends in the middle")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "GLOBAL":
            stack.append(_Global(argument))
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name in _SHORT_TUPLES:
            stack[-_SHORT_TUPLES[name] :] = [tuple(stack[-_SHORT_TUPLES[name] :])]
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("APPEND", "APPENDS"):
            items = self._since_mark() if name == "APPENDS" else [stack.pop()]
            stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._since_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "BINPERSID":
            stack.append(self._storage(*stack.pop()))
        elif name == "NEWOBJ":
            arguments, kind = stack.pop(), stack.pop()
            if not kind.name.startswith("__torch__") or arguments != ():
                raise NotTorchScript(f"asks for {kind.name!r}")
            stack.append(_Module(kind.name))
        elif name == "BUILD":
            state, module = stack.pop(), stack[-1]
            if not isinstance(module, _Module) or not isinstance(state, dict):
                raise NotTorchScript("has a module with a state of its own making")
            module.attributes.update(state)
        elif name == "REDUCE":
            arguments, kind = stack.pop(), stack.pop()
            stack.append(_call(kind.name, arguments))
        elif name != "PROTO":
            raise NotTorchScript(f"has the instruction {name}")

    def _since_mark(self) -> list[Any]:
        start = len(self.stack) - 1
        while self.stack[start] is not _MARK:  # an IndexError at the bottom: there was no mark
            start -= 1
        items = self.stack[start + 1 :]
        del self.stack[start:]
        return items

    def _storage(self, tag: str, kind: _Global, key: str, _device: str, n_values: int) -> torch.Tensor:
        import torch

        dtype_name = _STORAGES.get(kind.name.removeprefix("torch ").removesuffix("Storage"))
        if tag != "storage" or dtype_name is None:
            raise NotTorchScript(f"has numbers of the unknown kind {kind.name!r}")
        if key not in self.storages:
            info = self.archive.getinfo(f"{self.root}data/{key}")
            if info.compress_type != zipfile.ZIP_STORED:
                raise NotTorchScript("has compressed numbers")
            dtype = getattr(torch, dtype_name)
            if info.file_size != n_values * dtype.itemsize:
                raise NotTorchScript("has numbers of the wrong length")
            data = bytearray(self.archive.read(info))
            self.storages[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self.storages[key]


def _call(name: str, arguments: tuple[Any, ...]) -> Any:
    """What the archive's call of `name` gives, for the few names that it may call."""
    if name == "torch._utils _rebuild_tensor_v2":
        return _tensor(*arguments[:4])
    if name == "collections OrderedDict" and arguments == ():
        return {}
    if name == "torch.jit._pickle restore_type_tag" or name in _LISTS:
        return arguments[0]
    if name == "torch device" or name.startswith("__torch__"):  # a device, an enumeration, a named tuple
        return arguments
    raise NotTorchScript(f"asks for {name!r}")


def _tensor(storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> torch.Tensor:
    """A view of `storage`, which must hold all its values."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    inside = min(offset, *size, *stride, 0) >= 0 and (0 in size or last < storage.numel())
    # Counted too: a view that repeats values would grow without limit when copied.
    if not inside or math.prod(size) > storage.numel():
        raise NotTorchScript("has a tensor larger than its numbers")
    return storage.as_strided(size, stride, offset)


def _state_names(archive: zipfile.ZipFile, root: str) -> dict[str, set[str]]:
    """Per class name: which of its attributes are parameters and buffers, by the class's stored source."""
    names: dict[str, set[str]] = {}
    n_left = _MAX_SOURCE_BYTES
    for info in archive.infolist():
        if not (info.filename.startswith(f"{root}code/") and info.filename.endswith(".py")):
            continue
        n_left -= info.file_size
        if n_left < 0:
            raise NotTorchScript("has too much program text")
        source = archive.read(info).decode("utf-8")
        module = info.filename.removeprefix(f"{root}code/").removesuffix(".py").replace("/", ".")
        _, *classes = _CLASS.split(source)
        for class_name, body in zip(classes[::2], classes[1::2], strict=True):
            listed = {name for line in _NAMES.findall(body) for name in re.findall(r'"([^"]*)"', line)}
            names[f"{module} {class_name}"] = listed
    return names


def _walk(
    module: Any, prefix: str, names: dict[str, set[str]], parents: tuple[int, ...]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Full name and tensor of all parameters and buffers in `module` and below."""
    import torch

    if not isinstance(module, _Module) or module.class_name not in names:
        raise NotTorchScript("is no module whose source it holds")
    if id(module) in parents or len(parents) > _MAX_DEPTH:
        raise NotTorchScript("has a module inside itself")
    for name, value in module.attributes.items():
        if isinstance(value, _Module):
            yield from _walk(value, f"{prefix}{name}.", names, (*parents, id(module)))
        elif isinstance(value, torch.Tensor) and name in names[module.class_name]:
            yield f"{prefix}{name}", value
