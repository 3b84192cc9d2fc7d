"""The D3 U-Net as an OpenVINO graph."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from openvino import Model
from openvino import opset13 as op
from torch import nn

from danna_sep.models.attention import BiaxialLSTM, LocalAttention
from danna_sep.models.d3 import D2Block, D3Block
from danna_sep.models.unet import UNSEEN_MASK, UNet
from danna_sep.models.widen import scale_and_shift
from openvino_graphs.operations import (
    Node,
    concat,
    constant,
    conv,
    cut,
    integers,
    lstm,
    pad,
    reshape,
    transpose,
    transposed_conv,
)


def graph(model: UNet, shape: tuple[int, ...]) -> Model:
    """What `model` computes outside training for magnitudes of one shape (batch, channel, bin, frame)."""
    config = model.config
    batch, _, n_bins, n_frames = shape
    magnitude = op.parameter(list(shape), name="magnitude")
    features = cut(magnitude, 2, 0, config.n_bins)
    features = pad(features, 3, 0, max(0, 2 ** len(config.n_layers) - n_frames))
    if config.input_power != 1:
        features = op.power(features, op.constant(np.float32(config.input_power)))

    skips = []
    for block in model.encoder:
        features = _d3(cast("D3Block", block), features)
        features = op.avg_pool(features, [2, 2], [0, 0], [0, 0], [2, 2], True)
        skips.append(features)
    middle = features
    for layer in model.bottleneck:
        if isinstance(layer, LocalAttention):
            middle = _attention(layer, middle)
        elif isinstance(layer, BiaxialLSTM):
            middle = _biaxial(layer, middle)
        elif isinstance(layer, nn.BatchNorm2d):
            scale, shift = (values[None, :, None, None] for values in scale_and_shift(layer))
            middle = op.add(op.multiply(middle, constant(scale)), constant(shift))
        else:
            middle = op.relu(middle)
    features = concat((features, middle), 1)
    skips.pop()
    for stage in model.decoder:
        skip = skips.pop()
        widened = _widen(stage.widen, stage.norm, _d3(stage.block, features))  # type: ignore[arg-type]
        for axis in (2, 3):
            widened = pad(widened, axis, 0, _size(skip, axis) - _size(widened, axis))
        features = concat((widened, skip), 1)
    features = _widen(model.widen, model.widen_norm, features)
    output = model.output
    masks = op.sigmoid(conv(features, output.weight, output.bias, padding=(2, 2), dilation=2))
    if _size(masks, 3) > n_frames:
        masks = cut(masks, 3, 0, n_frames)
    for axis, size in ((2, n_bins), (3, n_frames)):
        masks = pad(masks, axis, 0, size - _size(masks, axis), UNSEEN_MASK)
    return Model([reshape(masks, (batch, config.n_sources, config.n_channels, n_bins, n_frames))], [magnitude], "unet")


def _size(node: Node, axis: int) -> int:
    return int(node.get_output_shape(0)[axis])


def _d3(block: D3Block, features: Node) -> Node:
    for each in block.blocks:
        features = concat((features, _d2(cast("D2Block", each), features)), 1)
    return features


def _d2(block: D2Block, features: Node) -> Node:
    growth = block.growth
    scales, shifts = zip(*(scale_and_shift(cast("nn.BatchNorm2d", norm)) for norm in block.norms), strict=True)
    outputs: list[Node] = []
    waiting: Node = None
    n_waiting = len(block.norms)
    for i, module in enumerate(block.convs):
        scale = torch.cat(scales[i:])
        shift = nn.functional.pad(shifts[i], (0, len(scale) - growth))
        weight = cast("nn.Conv2d", module).weight * scale[:, None, None, None]
        yielded = conv(features, weight, shift, padding=(2**i, 2**i), dilation=2**i)
        if waiting is not None:
            yielded = op.add(yielded, waiting)
        n_waiting -= 1
        features = op.relu(cut(yielded, 1, 0, growth) if n_waiting else yielded)
        waiting = cut(yielded, 1, growth, growth * (n_waiting + 1)) if n_waiting else None
        outputs.append(features)
    return concat(outputs, 1)


def _widen(widen: nn.ConvTranspose2d, norm: nn.BatchNorm2d, features: Node) -> Node:
    scale, shift = scale_and_shift(norm)
    weight = widen.weight * scale[:, None, None]
    return op.relu(transposed_conv(features, weight, shift, stride=2, padding=widen.kernel_size[0] // 2))


def _attention(layer: LocalAttention, features: Node) -> Node:
    batch, _, n_bins, n_frames = features.get_output_shape(0)
    attend = layer.attend
    n_heads, width, block, reach = attend.n_heads, attend.head_width, attend.block, attend.reach
    n_blocks = -(-n_frames // block)
    projected = conv(features, layer.project.weight, layer.project.bias, padding=(1, 1))
    heads = pad(reshape(projected, (batch, n_heads, 3 * width, n_bins, n_frames)), 4, 0, n_blocks * block - n_frames)
    # batch, head, width, bin, frame -> batch, head, frame, bin, width: places of a block then lie side by side
    heads = transpose(heads, (0, 1, 4, 3, 2))
    queries, keys, values = (cut(heads, 4, part * width, (part + 1) * width) for part in range(3))
    queries = reshape(queries, (batch, n_heads, n_blocks, block * n_bins, width))
    span = block + 2 * reach
    frames = (np.arange(n_blocks)[:, None] * block + np.arange(span)).reshape(-1)
    n_keys = span * n_bins

    def windows(part: Node) -> Node:
        around = op.gather(pad(part, 2, reach, reach), integers(frames.tolist()), op.constant(np.int64(2)))
        return reshape(around, (batch, n_heads, n_blocks, n_keys, width))

    scores = op.matmul(queries, windows(keys), False, True)
    scores = op.multiply(scores, op.constant(np.float32(width**-0.5)))
    if attend.mask_padding:
        frame = frames.reshape(n_blocks, span) - reach
        outside = np.where((frame >= 0) & (frame < n_frames), 0, -np.inf).astype(np.float32)
        scores = op.add(scores, op.constant(np.repeat(outside, n_bins, 1)[None, None, :, None]))
    attended = op.matmul(op.softmax(scores, -1), windows(values), False, False)
    attended = reshape(attended, (batch, n_heads, n_blocks * block, n_bins, width))
    attended = reshape(transpose(attended, (0, 1, 4, 3, 2)), (batch, n_heads * width, n_bins, n_blocks * block))
    if n_blocks * block > n_frames:
        attended = cut(attended, 3, 0, n_frames)
    return conv(attended, layer.output.weight, None, padding=(1, 1))


def _biaxial(layer: BiaxialLSTM, features: Node) -> Node:
    batch, width, n_bins, n_frames = features.get_output_shape(0)
    in_bins = reshape(transpose(features, (0, 2, 3, 1)), (batch * n_bins, n_frames, width))
    in_frames = reshape(transpose(features, (0, 3, 2, 1)), (batch * n_frames, n_bins, width))
    time = lstm(in_bins, layer.along_time, batch * n_bins, n_frames)
    time = transpose(reshape(time, (batch, n_bins, n_frames, -1)), (0, 3, 1, 2))
    frequency = lstm(in_frames, layer.along_frequency, batch * n_frames, n_bins)
    frequency = transpose(reshape(frequency, (batch, n_frames, n_bins, -1)), (0, 3, 2, 1))
    return concat((time, frequency), 1)
