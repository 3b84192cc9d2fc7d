"""The layers of a U-Net over a track that comes in parts.

Each keeps the frames that its next outputs still depend on, so nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danna_sep.models.attention import LocalAttention
from danna_sep.models.bordered import convolution_for
from danna_sep.models.convolution import Convolution, fuses
from danna_sep.models.d3 import D3Block
from danna_sep.models.d3_layers import LedLayer, conv_lead, d3_layer
from danna_sep.models.frame_queues import Lead, Led, Part, count_frames
from danna_sep.models.paired_convolution import PairedConvolution, pairs
from danna_sep.models.precision import has_fast_int8
from danna_sep.models.sparing_widening import SparingWidening
from danna_sep.models.unet import UNet, UNetConfig, UpStage
from danna_sep.models.whole_numbers import EightBitConvolution, widening_of_steps
from danna_sep.models.widen import Quarters, Widening, scale_and_shift
from danna_sep.shapes import FramedFeatures

LOGITS = "logits"


def inner_queue(stage: int) -> str:
    """Where a stage of the decoder finds what the one inside it gave; the first, the encoder."""
    return f"decoder.{stage} 0"


def skip_queue(stage: int) -> str:
    """Where it finds what the encoder gave; the first, the bottleneck."""
    return f"decoder.{stage} 1"


NO_LEAD = Lead(0, 0)

_Layer: TypeAlias = Callable[[Part, FramedFeatures], FramedFeatures]
Stage: TypeAlias = Callable[[Part, int], None]


def _conv(name: str, convolution: Convolution) -> _Layer:
    """A convolution that keeps the number of bins and, in the end, of frames."""
    reach = convolution.reach

    def layer(part: Part, features: FramedFeatures) -> FramedFeatures:
        led = part.led(name, features, Lead(reach // 2, reach))
        return convolution(part.behind(led.features, reach // 2))

    return layer


def attention_layer(name: str, attention: LocalAttention, norm: nn.BatchNorm2d) -> _Layer:
    """Local attention, what it finds normed and rectified."""
    attend, dtype = attention.attend, attention.output.weight.dtype
    block, reach = attend.block, attend.reach
    project = _conv(f"{name}.project", Convolution(attention.project.weight.transpose(-2, -1), attention.project.bias))
    scale, shift = scale_and_shift(norm)
    weight = (attention.output.weight * scale[:, None, None, None]).transpose(-2, -1)
    output = _conv(f"{name}.output", Convolution(weight.to(dtype), shift.to(dtype), rectify=True))

    def layer(part: Part, features: FramedFeatures) -> FramedFeatures:
        heads = project(part, features)
        inside = torch.ones(heads.shape[2], dtype=torch.bool, device=heads.device)
        if f"{name}.heads" in part.kept:
            (heads_before,), (inside_before,) = (part.kept[f"{name}.{kind}"] for kind in ("heads", "inside"))
            heads, inside = torch.cat((heads_before, heads), 2), torch.cat((inside_before, inside))
        else:
            heads, inside = F.pad(heads, (0, 0, reach, 0)), F.pad(inside, (reach, 0))
        n_frames = heads.shape[2] - reach
        n_blocks = -(-n_frames // block) if part.is_last else max(0, n_frames - reach) // block
        n_frames = min(n_frames, n_blocks * block)
        part.kept[f"{name}.heads"] = (heads[:, :, n_blocks * block :].clone(),)
        part.kept[f"{name}.inside"] = (inside[n_blocks * block :].clone(),)
        attended = heads.new_empty(len(heads), attend.width, 0, heads.shape[3])
        if n_blocks:
            end = n_blocks * block + 2 * reach
            missing = max(0, end - heads.shape[2])
            heads, inside = F.pad(heads, (0, 0, 0, missing))[:, :, :end], F.pad(inside, (0, missing))[:end]
            attended = attend(heads.transpose(-2, -1), inside)[..., :n_frames].transpose(-2, -1)
        return output(part, attended)

    return layer


def _n_widened(part: Part, widening: Widening, led: FramedFeatures) -> tuple[int, int]:
    """How many even and odd frames can be had."""
    n_frames = max(0, led.shape[2] - widening.lookback - (widening.lookback if part.is_last else 1))
    return n_frames, max(0, n_frames - part.is_last)


def _lead_of(widening: Widening) -> Lead:
    return Lead(widening.lookback, widening.lookback + 1, widening.border > 0)


def _widening(weight: Tensor, norm: nn.BatchNorm2d) -> Widening:
    return Widening(weight, norm, rectify=True, convolution=convolution_for(weight))


def up_stage(number: int, stage: UpStage, counts: bool) -> Stage:
    """From the decoder's stage inside and the encoder's skip, so many frames of each, to the next stage."""
    weight = stage.widen.weight.transpose(-2, -1)
    widening = widening_of_steps(weight, stage.norm) if counts else _widening(weight, stage.norm)
    dtype = torch.uint8 if counts else weight.dtype
    types = [dtype] * (1 + len(stage.block.blocks))
    block = d3_layer(f"decoder.{number} block", stage.block, _lead_of(widening), types)
    lead = conv_lead(dtype, weight.device)
    queues, following = (inner_queue(number), skip_queue(number)), (inner_queue(number + 1), skip_queue(number + 1))

    def step(part: Part, n_frames: int) -> None:
        led = part.behind(block(part, part.stack(queues, lead, n_frames, dtype)).features, widening.lookback)
        widened = widening(led, *_n_widened(part, widening, led))
        part.put(following[0], widened)
        n_missing = count_frames(part.kept[following[1]]) - count_frames(part.kept[following[0]])
        if part.is_last and n_missing:
            part.put(following[0], widened.new_zeros(*widened.shape[:2], n_missing, widened.shape[3]))

    return step


def last_stage(model: UNet, counts: bool) -> Stage:
    """To what the sigmoid makes masks of.

    The output's convolution has dilation 2 and so never mixes even and odd frames or bins: it hears each quarter of
    what was widened by itself, and only its few results take turns.
    """
    number = len(model.decoder)
    weight, output_weight = model.widen.weight.transpose(-2, -1), model.output.weight.transpose(-2, -1)
    if counts:
        widening = widening_of_steps(weight, model.widen_norm)
        output: Convolution = EightBitConvolution(output_weight, model.output.bias, gives=output_weight.dtype)
    else:
        kind = convolution_for(weight)
        is_bare = not kind.border
        sums_pay = is_bare and model.config.is_wide and weight.device.type == "cpu"
        norm = model.widen_norm
        widening = SparingWidening(weight, norm, rectify=True) if sums_pay else _widening(weight, norm)
        output = (PairedConvolution if is_bare and pairs(output_weight) else kind)(output_weight, model.output.bias)
    dtype = torch.uint8 if counts else weight.dtype
    lead = Lead(output.reach // 2, output.reach, output.border > 0)
    names = [[f"output {i}{j}" for j in (0, 1)] for i in (0, 1)]

    def step(part: Part, n_frames: int) -> None:
        led = part.behind(
            part.stack((inner_queue(number), skip_queue(number)), _lead_of(widening), n_frames, dtype).features,
            widening.lookback,
        )
        n_bins, n_outputs = led.shape[3] - 2 * widening.border, widening.n_outputs
        rooms = [
            [part.open(name, (len(led), n_outputs, n_rows, n_bins - j), led, lead) for j, name in enumerate(pair)]
            for n_rows, pair in zip(_n_widened(part, widening, led), names, strict=True)
        ]
        widening.into([[room.new for room in pair] for pair in rooms], led)

        def logits_of(name: str, room: Led) -> FramedFeatures:
            part.close(name, room, lead)
            return output(part.behind(room.features, output.reach // 2))

        quarters = [[logits_of(*each) for each in zip(*pair, strict=True)] for pair in zip(names, rooms, strict=True)]
        part.kept[LOGITS] = (_interleaved(quarters).transpose(-2, -1).contiguous(),)

    return step


@dataclass(frozen=True)
class UNetLayers:
    """All layers of a U-Net, batch norms in their weights, as they are for any track.

    Attributes:
        config: The network's.
        dtype: Of its features.
        device: Where its weights are.
        waits_coarsely: See `UNet`.
        magnitude_step: See `UNet`.
        counts: Whether features are put together, and wait, in whole steps of eight bits.
        encoder: Its stages.
        bottleneck: Its layers.
        decoder: Its stages, the last of which gives what masks are made of.
    """

    config: UNetConfig
    dtype: torch.dtype
    device: torch.device
    waits_coarsely: bool
    magnitude_step: float
    counts: bool
    encoder: Sequence[LedLayer]
    bottleneck: Sequence[_Layer]
    decoder: Sequence[Stage]


def _counts(model: UNet) -> bool:
    """Whether its features are in steps, and there are convolutions for them."""
    return model.magnitude_step != 1 and fuses(model.output.weight) and has_fast_int8()


def can_stream(model: nn.Module) -> bool:
    """Whether `layers_of` takes it: a U-Net without LSTMs, whose outputs all depend on neighbouring frames alone."""
    return isinstance(model, UNet) and model.config.bottleneck == "attention"


def layers_of(model: UNet) -> UNetLayers:
    """The layers of a model outside training, as its parameters are now.

    Raises:
        ValueError: It is in training, or see `can_stream`.
    """
    if not can_stream(model) or model.training:
        raise ValueError("only a U-Net with local attention, outside training, can hear a track in parts")
    counts, dtype = _counts(model), model.output.weight.dtype
    encoder = []
    for i, block in enumerate(cast("list[D3Block]", model.encoder)):
        types = [torch.uint8 if counts and (i or k) else dtype for k in range(len(block.blocks))]
        encoder.append(d3_layer(f"encoder.{i}", block, NO_LEAD, [*types, dtype]))
    bottleneck = [
        attention_layer(f"bottleneck.{i}", attention, cast("nn.BatchNorm2d", model.bottleneck[i + 1]))
        for i, attention in enumerate(model.bottleneck)
        if isinstance(attention, LocalAttention)
    ]
    decoder = [up_stage(i, cast("UpStage", stage), counts) for i, stage in enumerate(model.decoder)]
    return UNetLayers(
        model.config,
        dtype,
        model.output.weight.device,
        model.waits_coarsely,
        model.magnitude_step,
        counts,
        encoder,
        bottleneck,
        [*decoder, last_stage(model, counts)],
    )


def _interleaved(quarters: Quarters) -> FramedFeatures:
    """Even and odd frames by even and odd bins, taking turns."""
    n_frames = sum(pair[0].shape[2] for pair in quarters)
    n_bins = sum(each.shape[3] for each in quarters[0])
    first = quarters[0][0]
    whole = first.new_empty(len(first), n_frames, n_bins, first.shape[1]).permute(0, 3, 1, 2)
    for i, pair in enumerate(quarters):
        for j, quarter in enumerate(pair):
            whole[:, :, i::2, j::2] = quarter
    return whole
