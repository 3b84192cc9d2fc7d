"""The operations that the networks are made of, as nodes of an OpenVINO graph; parameters come from torch modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from openvino import opset13 as op
from torch import Tensor, nn

Node: TypeAlias = Any
"""A node of a graph; OpenVINO's own stubs do not cover what its operations give."""


def constant(tensor: Tensor) -> Node:
    """A tensor's values."""
    return op.constant(np.ascontiguousarray(tensor.detach().cpu().float().numpy()))


def integers(values: Sequence[int]) -> Node:
    """Sizes, axes, orders."""
    return op.constant(np.asarray(values, np.int64))


def reshape(node: Node, shape: Sequence[int]) -> Node:
    """The same values, -1 for the size that follows."""
    return op.reshape(node, integers(shape), False)


def transpose(node: Node, order: Sequence[int]) -> Node:
    """Axes in another order."""
    return op.transpose(node, integers(order))


def concat(nodes: Sequence[Node], axis: int) -> Node:
    """One after the other."""
    return op.concat(list(nodes), axis)


def cut(node: Node, axis: int, start: int, stop: int, step: int = 1) -> Node:
    """node[start:stop:step] along an axis."""
    return op.slice(node, integers([start]), integers([stop]), integers([step]), integers([axis]))


def pad(node: Node, axis: int, before: int, after: int, value: float = 0.0) -> Node:
    """Values before and behind, along one axis."""
    if not before and not after:
        return node
    n_axes = len(node.get_output_partial_shape(0) if hasattr(node, "get_output_partial_shape") else node.shape)
    sizes = [[0] * n_axes, [0] * n_axes]
    sizes[0][axis], sizes[1][axis] = before, after
    return op.pad(node, integers(sizes[0]), integers(sizes[1]), "constant", op.constant(np.float32(value)))


def along_channels(values: Tensor, n_axes: int) -> Node:
    """A value for each channel, axis 1 of n_axes."""
    return constant(values.reshape(1, -1, *[1] * (n_axes - 2)))


def conv(
    node: Node,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: int = 1,
    padding: Sequence[int],
    dilation: int = 1,
    groups: int = 1,
) -> Node:
    """A convolution along all axes behind the channels."""
    n_axes = weight.ndim - 2
    sizes = ([stride] * n_axes, list(padding), list(padding), [dilation] * n_axes)
    if groups == 1:
        result = op.convolution(node, constant(weight), *sizes)
    else:
        result = op.group_convolution(node, constant(weight.unflatten(0, (groups, -1))), *sizes)
    return result if bias is None else op.add(result, along_channels(bias, weight.ndim))


def transposed_conv(
    node: Node, weight: Tensor, bias: Tensor | None, *, stride: int, padding: int = 0, groups: int = 1
) -> Node:
    """A transposed convolution along all axes behind the channels; weights as torch keeps them."""
    n_axes = weight.ndim - 2
    sizes = {"strides": [stride] * n_axes, "pads_begin": [padding] * n_axes, "pads_end": [padding] * n_axes}
    sizes["dilations"] = [1] * n_axes
    if groups == 1:
        result = op.convolution_backprop_data(node, constant(weight), **sizes)
    else:
        result = op.group_convolution_backprop_data(node, constant(weight.unflatten(0, (groups, -1))), **sizes)
    return result if bias is None else op.add(result, along_channels(bias, weight.ndim))


def linear(node: Node, weight: Tensor, bias: Tensor | None) -> Node:
    """Along the last axis."""
    result = op.matmul(node, constant(weight), False, True)
    return result if bias is None else op.add(result, constant(bias))


def glu(node: Node, axis: int, width: int) -> Node:
    """The first half along an axis of 2 x width, gated by the second."""
    return op.multiply(cut(node, axis, 0, width), op.sigmoid(cut(node, axis, width, 2 * width)))


def lstm(node: Node, module: nn.LSTM, batch: int, n_steps: int) -> Node:
    """All layers of an LSTM over (batch, step, feature), without dropout."""
    n_directions = 2 if module.bidirectional else 1
    hidden = module.hidden_size
    for layer in range(module.num_layers):
        names = [f"l{layer}{tail}" for tail in ("", "_reverse")[:n_directions]]
        from_input, from_hidden = (
            constant(_stacked(getattr(module, f"weight_{kind}_{name}") for name in names)) for kind in ("ih", "hh")
        )
        bias = constant(
            _stacked(getattr(module, f"bias_ih_{name}") + getattr(module, f"bias_hh_{name}") for name in names)
        )
        silent: npt.NDArray[np.float32] = np.zeros((batch, n_directions, hidden), np.float32)
        lengths = op.constant(np.full(batch, n_steps, np.int32))
        outputs = op.lstm_sequence(
            node,
            op.constant(silent),
            op.constant(silent),
            lengths,
            from_input,
            from_hidden,
            bias,
            hidden,
            "bidirectional" if n_directions == 2 else "forward",
        )
        # batch, direction, step, feature -> batch, step, (direction feature)
        node = reshape(transpose(outputs.output(0), (0, 2, 1, 3)), (batch, n_steps, n_directions * hidden))
    return node


def _stacked(directions: Any) -> Tensor:
    """Torch orders gates input, forget, cell, output; OpenVINO forget, input, cell, output."""
    import torch

    gates = [parameters.detach().chunk(4) for parameters in directions]
    return torch.stack([torch.cat((forget, entry, cell, output)) for entry, forget, cell, output in gates])
