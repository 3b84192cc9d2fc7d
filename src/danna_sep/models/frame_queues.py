"""What the layers of a network keep of a track's frames while these come in parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from danna_sep.allocator import apart
from danna_sep.shapes import Features


class Led(NamedTuple):
    """Features, and how many frames in front of the new ones are earlier ones, or zeros before the first."""

    features: Features
    n_before: int


class Lead(NamedTuple):
    """Frames that a layer needs in front of the new ones: before the track's first, as zeros, and later."""

    at_first: int
    later: int


@dataclass
class Part:
    """What layers keep from part to part, by name, while one part goes through."""

    kept: dict[str, tuple[Tensor, ...]]
    is_last: bool
    cut: set[str] = field(default_factory=set)

    def led(self, name: str, features: Tensor, lead: Lead) -> Led:
        """With the end of what went by that name before in front."""
        if name in self.kept:
            (before,) = self.kept[name]
            led = Led(torch.cat((before, features), -1), before.shape[-1]) if before.shape[-1] else Led(features, 0)
        else:
            led = Led(F.pad(features, (lead.at_first, 0)), lead.at_first)
        self._keep(name, led.features, lead)
        return led

    def _keep(self, name: str, features: Tensor, lead: Lead) -> None:
        start = max(0, features.shape[-1] - lead.later)
        self.kept[name] = (self._copied(f"{name} place", features[..., start:]),)  # not a view, which would hold all

    def put(self, name: str, features: Features) -> None:
        """At the end of a queue."""
        self.kept[name] = (*(piece for piece in self.kept.get(name, ()) if piece.shape[-1]), features)

    def _copied(self, place: str, features: Tensor) -> Tensor:
        """A copy that stays where the last one of that place stood, which nobody needs any more.

        New memory has to be had from the system page by page, which takes longer than the copy.
        """
        (room,) = self.kept.get(place, (features[..., :0],))
        if features.device.type != "cpu" or not features.shape[-1]:
            return features.clone()
        if features.shape[-1] > room.shape[-1]:
            room = apart(features)
            self.kept[place] = (room,)
            return room
        if features.untyped_storage().data_ptr() == room.untyped_storage().data_ptr():
            return features
        return room[..., : features.shape[-1]].copy_(features)

    def take(self, name: str, n_frames: int) -> list[Features]:
        """From the start of a queue, in pieces; at least one of no frames. When they are used, `settle` the queue."""
        taken: list[Tensor] = []
        rest: list[Tensor] = []
        for piece in self.kept[name]:
            here = min(piece.shape[-1], n_frames)
            n_frames -= here
            taken.append(piece[..., :here])
            if here < piece.shape[-1]:
                rest.append(piece[..., here:])
                self.cut.update((name,) if here else ())
        # Where nothing is left, a piece of no frames tells the shape.
        self.kept[name] = tuple(rest) or (taken[-1][..., :0].clone(),)
        return taken

    def settle(self, name: str) -> None:
        """Let go of the memory that what was taken from a queue shares with what is left."""
        if name in self.cut:
            self.cut.remove(name)
            first, *others = self.kept[name]
            self.kept[name] = (self._copied(f"{name} place", first), *others)

    def stack(self, queues: Sequence[str], lead: Lead, n_frames: int | None = None) -> Led:
        """The next frames that are in all queues, or `n_frames` of them, as features of one stream.

        Queues that have fewer bins get zeros.
        """
        n_in_all = min(count_frames(self.kept[queue]) for queue in queues)
        n_frames = n_in_all if n_frames is None else min(n_frames, n_in_all)
        taken = [self.take(queue, n_frames) for queue in queues]
        name = f"{queues[0]} stacked"
        first, widths = taken[0][0], [pieces[0].shape[1] for pieces in taken]
        before = self.kept[name][0] if name in self.kept else None
        n_before = lead.at_first if before is None else before.shape[-1]
        shape = (len(first), sum(widths), max(pieces[0].shape[2] for pieces in taken), n_before + n_frames)
        stacked = torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=torch.channels_last)
        if n_before:
            stacked[..., :n_before] = 0 if before is None else before
        for pieces, place in zip(taken, stacked.split(widths, 1), strict=True):
            start = n_before
            for piece in pieces:
                here = place[..., start : start + piece.shape[-1]]
                here[:, :, : piece.shape[2]] = piece
                here[:, :, piece.shape[2] :] = 0
                start += piece.shape[-1]
        for queue in queues:
            self.settle(queue)
        self._keep(name, stacked, lead)
        return Led(stacked, n_before)

    def add(self, name: str, features: Features) -> Features:
        """To features, in place, the next of a queue, which is ahead of them."""
        start = 0
        for piece in self.take(name, features.shape[-1]):
            features[..., start : start + piece.shape[-1]] += piece
            start += piece.shape[-1]
        self.settle(name)
        return features

    def behind(self, features: Features, n_frames: int) -> Features:
        """With zeros behind the track's last frame."""
        return F.pad(features, (0, n_frames)) if self.is_last else features

    def pool(self, name: str, features: Features) -> Features:
        """Means of two by two bins and frames."""
        (odd,) = self.kept.get(name, (features[..., :0],))
        if odd.shape[-1]:
            features = torch.cat((odd, features), -1)
        n_frames = features.shape[-1] // 2 * 2
        self.kept[name] = (features[..., n_frames:].clone(),)
        if not n_frames:
            return features.new_empty(*features.shape[:-2], features.shape[-2] // 2, 0)
        return F.avg_pool2d(features[..., :n_frames], 2)


def count_frames(pieces: Sequence[Tensor]) -> int:
    """Of all pieces of a queue."""
    return sum(piece.shape[-1] for piece in pieces)
