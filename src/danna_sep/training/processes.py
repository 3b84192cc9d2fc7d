"""The processes that share a training, their device and their arithmetic."""

from __future__ import annotations

import atexit
import gc
from importlib import import_module
from typing import Final

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import distributed

from danna_sep.api import resolve_device
from danna_sep.errors import ConfigError
from danna_sep.models.precision import has_fast_bf16

_MIXED_PRECISION: Final = {"f32": "no", "bf16": "bf16", "f16": "fp16"}


def accelerator_for(device: str, precision: str) -> Accelerator:
    """What exchanges numbers between the processes of a training.

    Args:
        device: "auto", "cpu", "cuda" (all GPUs that are seen) or "mps".
        precision: "f32", "bf16" or "f16", as a recipe has it; see `arithmetic_on` for what is made of it.

    Raises:
        ConfigError: A device that is not there, or one of several by its number.
    """
    device = resolve_device(device)
    if ":" in device:
        raise ConfigError(f"device {device!r}: training takes all GPUs that it sees; choose by CUDA_VISIBLE_DEVICES")
    # Accelerate keeps its settings for the life of a process, but there can be several trainings in one.
    AcceleratorState._reset_state()
    if distributed.is_available() and not distributed.is_initialized():
        # Its defaults hold the group that there is when it is first imported, as by the wrapping of a network.
        import_module("torch.distributed.nn.functional")
        atexit.register(_leave_group)
    mixed_precision = _MIXED_PRECISION[arithmetic_on(device, precision)]
    return Accelerator(cpu=device == "cpu", mixed_precision=mixed_precision)


def arithmetic_on(device: str, precision: str) -> str:
    """The arithmetic that stands for a recipe's precision on a kind of device.

    float16 is for CUDA: elsewhere it is emulated or missing, and bfloat16 stands in. A CPU that has no instructions for
    products of bfloat16 numbers takes ten times as long with them as in single precision, which then stands in.
    """
    if precision == "f32" or (device == "cpu" and not has_fast_bf16()):
        return "f32"
    return precision if device == "cuda" else "bf16"


def any_process(said: bool, accelerator: Accelerator) -> bool:
    """Whether any of the processes says so."""
    asked = torch.tensor([float(said)], device=accelerator.device)
    return float(accelerator.reduce(asked, "sum")) > 0


def _leave_group() -> None:
    """End the threads that exchange tensors: one that drops a tensor while Python goes down aborts the process.

    They live as long as anything, such as a wrapped network, holds the group; hence the collection.
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()
