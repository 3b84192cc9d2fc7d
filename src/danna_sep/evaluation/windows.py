"""Tracks that are read in blocks, in blocks of one length and in windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Blocks: TypeAlias = Iterable[tuple[Tensor, Tensor]]
"""Sources and estimates, each (source channel time) and equally long, in blocks that follow each other."""


def rechunked(blocks: Blocks, n_frames: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The same track in blocks of `n_frames`, but for the last, which may be shorter."""
    held: list[tuple[Tensor, Tensor]] = []
    n_held = 0
    for block in blocks:
        held.append(block)
        n_held += block[0].shape[-1]
        while n_held >= n_frames:
            joined = _joined(held)
            yield joined[0][..., :n_frames], joined[1][..., :n_frames]
            held = [(joined[0][..., n_frames:], joined[1][..., n_frames:])]
            n_held -= n_frames
    if n_held:
        yield _joined(held)


def windows(blocks: Blocks, window: int, hop: int, n_windows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The windows of a track one after the other."""
    rest: tuple[Tensor, Tensor] | None = None
    start = 0  # of the next window in what is held
    for block in rechunked(blocks, max(window, hop)):
        rest = block if rest is None else _joined([rest, block])
        while n_windows and start + window <= rest[0].shape[-1]:
            yield rest[0][..., start : start + window], rest[1][..., start : start + window]
            start += hop
            n_windows -= 1
        n_past = min(start, rest[0].shape[-1])
        rest, start = (rest[0][..., n_past:], rest[1][..., n_past:]), start - n_past


def batched(pairs: Iterable[tuple[Tensor, Tensor]], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Some windows at a time, along a new first axis."""
    held: list[tuple[Tensor, Tensor]] = []
    for pair in pairs:
        held.append(pair)
        if len(held) == size:
            yield torch.stack([item[0] for item in held]), torch.stack([item[1] for item in held])
            held = []
    if held:
        yield torch.stack([item[0] for item in held]), torch.stack([item[1] for item in held])


def _joined(blocks: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    if len(blocks) == 1:
        return blocks[0]
    return torch.cat([block[0] for block in blocks], -1), torch.cat([block[1] for block in blocks], -1)
