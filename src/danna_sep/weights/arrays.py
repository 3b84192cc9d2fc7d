"""NumPy arrays by name out of a file that `torch.save` made of them, read without running anything that it holds.

`torch.load(weights_only=True)` refuses such a file unless functions of NumPy are allowed, whose place and checks differ
from version to version. Here its pickle is only data: the few instructions that make up such a dictionary are
followed, and everything else is refused.
"""

from __future__ import annotations

import math
import pickletools
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from danna_sep.errors import CorruptWeights, MissingWeights

if TYPE_CHECKING:
    import torch

_MARK = object()
_VALUES = {"BININT", "BININT1", "BININT2", "BINUNICODE", "SHORT_BINUNICODE"}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_DTYPES = {"f4": "<f4", "f8": "<f8"}


class _NotArrays(Exception):
    """The file holds what a dictionary of arrays does not need."""


class _Global(str):
    """A name that the instructions mention; never looked up anywhere."""


class _Array:
    """An array in the making."""

    def __init__(self) -> None:
        self.tensor: torch.Tensor | None = None


def read_arrays(path: Path) -> dict[str, torch.Tensor]:
    """The arrays of a file that holds a dictionary of float arrays, as tensors of single precision.

    Raises:
        MissingWeights: There is no such file.
        CorruptWeights: It is damaged, or holds anything else.
    """
    if not path.is_file():
        raise MissingWeights(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if PurePosixPath(name).name == "data.pkl"]
            if len(names) != 1:
                raise _NotArrays("it holds no single data.pkl")
            content = _run(archive.read(names[0]))
        if not isinstance(content, dict):
            raise _NotArrays("it is no dictionary")
        arrays = {}
        for name, value in content.items():
            if not isinstance(name, str) or not isinstance(value, _Array) or value.tensor is None:
                raise _NotArrays(f"its entry {name!r} is no array")
            if not bool(value.tensor.isfinite().all()):
                raise _NotArrays(f"its entry {name!r} has NaN or infinite values")
            arrays[name] = value.tensor
    except Exception as error:  # damaged bytes make the readers raise nearly anything
        reason = str(error) if isinstance(error, _NotArrays) else "it is damaged"
        raise CorruptWeights(f"{path}: not opened as a dictionary of arrays, for {reason}; install it again") from error
    return arrays


def _run(instructions: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(instructions):
        name = opcode.name
        if name == "STOP":
            return stack.pop()
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "GLOBAL":
            stack.append(_Global(argument))
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name == "TUPLE":
            stack.append(tuple(_since_mark(stack)))
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("SETITEM", "SETITEMS"):
            items = _since_mark(stack) if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_call(function, arguments))
        elif name == "BUILD":
            _build(stack[-2], stack[-1])
            stack.pop()
        elif name != "PROTO":
            raise _NotArrays(f"it has the instruction {name}")
    raise _NotArrays("it ends in the middle")


def _since_mark(stack: list[Any]) -> list[Any]:
    start = len(stack) - 1
    while stack[start] is not _MARK:  # an IndexError at the bottom: there was no mark
        start -= 1
    items = stack[start + 1 :]
    del stack[start:]
    return items


def _call(function: Any, arguments: Any) -> Any:
    """What the call makes, for the three functions that arrays in a pickle need."""
    if not isinstance(function, _Global):
        raise _NotArrays("it calls what is no function")
    if function in _RECONSTRUCT:
        return _Array()
    if function == "_codecs encode" and len(arguments) == 2 and arguments[1] == "latin1":
        return arguments[0].encode("latin1")  # bytes, as older pickles write them
    if function == "numpy dtype" and arguments[0] in _DTYPES:
        return _Dtype(_DTYPES[arguments[0]])
    raise _NotArrays(f"it asks for {str(function)!r}")


class _Dtype(str):
    """NumPy's name of a kind of number, little-endian."""


def _build(target: Any, state: Any) -> None:
    """Fill in an array, or check that a kind of number is the usual one."""
    if isinstance(target, _Dtype) and state[1] == "<":
        return
    if not isinstance(target, _Array) or len(state) != 5:
        raise _NotArrays("it has objects with a state of their own making")
    import numpy as np
    import torch

    _, shape, dtype, in_columns, data = state
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes) or in_columns:
        raise _NotArrays("it has arrays of an unusual kind")
    values = np.frombuffer(data, dtype=str(dtype))
    if math.prod(shape) != values.size or min(shape, default=0) < 0:
        raise _NotArrays("it has an array of the wrong length")
    target.tensor = torch.from_numpy(values.astype(np.float32).reshape(shape))
