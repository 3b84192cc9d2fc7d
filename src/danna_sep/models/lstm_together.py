"""An LSTM along several sequences at once, on a CPU.

PyTorch's own reads all of a recurrent weight for each step of one sequence, and is slower still for two or three. Where
the weight is larger than the processor's caches, that is the time it takes: here one reading serves all sequences.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_LEAST_HIDDEN: Final = 1024
"""Features from which on it pays: two megabytes of weight a gate, or four in single precision."""

Frames = Float[Tensor, "batch _frame _feature"]


def gains_together(lstm: nn.LSTM) -> bool:
    """Whether several sequences are faster together than one after the other."""
    weight = lstm.weight_hh_l0
    return (
        isinstance(weight, Tensor)
        and weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and lstm.hidden_size >= _LEAST_HIDDEN
        and lstm.bidirectional
        and lstm.batch_first
        and not lstm.proj_size
        and _has_operators(weight.dtype)
    )


def remember_together(lstm: nn.LSTM, frames: Frames) -> Frames:
    """What the LSTM gives for each of several sequences, but for rounding; without gradients.

    Args:
        lstm: One that `gains_together`, outside training.
        frames: Axes batch, frame, feature.
    """
    for layer in range(lstm.num_layers):
        ways = [_along(lstm, f"_l{layer}", frames, range(frames.shape[1]))]
        ways.append(_along(lstm, f"_l{layer}_reverse", frames, range(frames.shape[1] - 1, -1, -1)))
        frames = torch.cat(ways, -1)
    return frames


def _along(lstm: nn.LSTM, suffix: str, frames: Frames, order: range) -> Frames:
    """One direction of one layer; gates and cells in single precision."""
    heard, remembered, bias, other_bias = (
        getattr(lstm, name + suffix).detach() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    n_sequences, n_frames, _ = frames.shape
    n_hidden = lstm.hidden_size
    given = F.linear(frames, heard, bias + other_bias).transpose(0, 1).to(torch.float32).contiguous()
    packed = torch.ops.mkldnn._reorder_linear_weight(remembered, n_sequences)
    state = frames.new_zeros(n_sequences, n_hidden)
    cell = given.new_zeros(n_sequences, n_hidden)
    out = frames.new_empty(n_frames, n_sequences, n_hidden)
    for frame in order:
        gates = given[frame].add_(torch.ops.mkldnn._linear_pointwise(state, packed, None, "none", [], ""))
        enter, keep, candidate, leave = gates.split(n_hidden, 1)
        # tanh(x) = 2 / (1 + exp(-2 x)) - 1, so that one function serves all four gates.
        candidate.mul_(2)
        gates.sigmoid_()
        cell.mul_(keep).addcmul_(enter, candidate, value=2).sub_(enter)
        state = out[frame].copy_(torch.tanh(cell).mul_(leave))
    return out.transpose(0, 1)


def _has_operators(dtype: torch.dtype) -> bool:
    """Whether PyTorch has those that lay a weight out for products with a few rows; they are not public."""
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    return dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
