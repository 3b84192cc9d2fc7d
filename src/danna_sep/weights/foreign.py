"""Other people's checkpoint files into plain tensors, without running anything that such a file holds.

The one door for files that Danna-Sep did not write itself: TorchScript archives, training checkpoints, state dicts,
safetensors. What the entries mean is somebody else's business (`convert`).
"""

from __future__ import annotations

import tarfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danna_sep.errors import MissingWeights, UnknownCheckpoint, WeightsError
from danna_sep.weights.file import DTYPES
from danna_sep.weights.torchscript import NotTorchScript, is_torchscript, read_torchscript
from danna_sep.weights.web_page import looks_like_page

if TYPE_CHECKING:
    import torch

_NESTS = ("model", "state_dict")
_PREFIX = "module."


def read_entries(path: Path | str) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint file by their full names, on the CPU, each with memory of its own.

    Read are TorchScript archives; what `torch.save` wrote (zip or older), be it a state dict or a checkpoint that
    holds one as `model` or `state_dict`; and safetensors. A prefix `module.` on all names is dropped. Numbers
    keep their type.

    Args:
        path: the file; its suffix does not matter.

    Raises:
        MissingWeights: there is no such file.
        UnknownCheckpoint: not a checkpoint, cut off, with anything inside besides tensors and plain values that
            would have to run, or with an entry that is not a finite, dense tensor.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise MissingWeights(f"{path}: no such file; give the checkpoint file's path")
        if not path.is_file():
            raise UnknownCheckpoint(f"{path}: not a file; give the checkpoint file itself")
        found = _read_any(path)
    except NotTorchScript as error:
        raise UnknownCheckpoint(
            f"{path}: not opened, the TorchScript archive {_one_line(error)}, which plain weights do not need"
        ) from error
    except WeightsError:
        raise
    except OSError as error:
        raise UnknownCheckpoint(f"{path}: cannot be read ({error.strerror or _one_line(error)})") from error
    except Exception as error:  # damaged bytes make the readers raise nearly anything
        raise UnknownCheckpoint(
            f"{path}: not opened: cut off, not a checkpoint, or it holds more than tensors; download it again"
        ) from error
    return _plain(path, _without_prefix(_state_dict(path, found)))


def _read_any(path: Path) -> Any:
    import torch

    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise UnknownCheckpoint(f"{path}: the file is empty; download it again")
    if looks_like_page(head):
        raise UnknownCheckpoint(f"{path}: a web page, not a checkpoint; download the file itself")
    if head[8:9] == b"{":
        from safetensors.torch import load_file

        return load_file(path)
    if is_torchscript(path):
        return read_torchscript(path)
    # torch before 2.6 let archives of this oldest kind get round weights_only.
    if not head.startswith(b"PK\x03\x04") and tarfile.is_tarfile(path):
        raise UnknownCheckpoint(f"{path}: a tar archive, which cannot be opened safely; save it again with torch.save")
    with warnings.catch_warnings():
        # Said of files by newer or older Pythons and torches; nothing a user could act on.
        warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
        warnings.filterwarnings("ignore", message="TypedStorage is deprecated", category=UserWarning)
        return torch.load(path, map_location="cpu", weights_only=True)


def _state_dict(path: Path, found: Any) -> dict[str, Any]:
    """The state dict itself, taken out of a training checkpoint if need be."""
    for _ in _NESTS:
        nested = [found[key] for key in _NESTS if isinstance(found, Mapping) and isinstance(found.get(key), Mapping)]
        found = nested[0] if nested else found
    if not isinstance(found, Mapping) or not found:
        raise UnknownCheckpoint(f"{path}: holds no state dict; give a file of model weights")
    for name in found:
        if not isinstance(name, str):
            raise UnknownCheckpoint(f"{path}: holds no state dict (a key is {_one_line(repr(name))}, not a name)")
    return dict(found)


def _without_prefix(entries: dict[str, Any]) -> dict[str, Any]:
    if all(name.startswith(_PREFIX) for name in entries):
        return {name.removeprefix(_PREFIX): value for name, value in entries.items()}
    return entries


def _plain(path: Path, entries: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Checked copies of the tensors."""
    import torch

    plain = {}
    for name, tensor in entries.items():
        where = f"{path}: entry {_one_line(name)!r}"
        if not isinstance(tensor, torch.Tensor):
            raise UnknownCheckpoint(f"{where} is no tensor; give a file of model weights")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise UnknownCheckpoint(f"{where} is not a plain dense tensor; save the model's float weights instead")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise UnknownCheckpoint(f"{where} is larger than its stored numbers")
        if str(tensor.dtype).removeprefix("torch.") not in DTYPES:
            raise UnknownCheckpoint(f"{where} has numbers of the type {tensor.dtype}; save it in float32")
        if not bool(torch.isfinite(tensor).all()):
            raise UnknownCheckpoint(f"{where} holds NaN or infinite values; the checkpoint is broken")
        plain[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
    return plain


def _one_line(thing: object) -> str:
    return " ".join(str(thing).split())[:200]
