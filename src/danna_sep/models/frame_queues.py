"""What the layers of a network keep of a track's frames while these come in parts.

Frames are the third axis of all features, and outermost in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from danna_sep.memory import Store
from danna_sep.models.bordered import bordered, inside
from danna_sep.models.whole_numbers import write_features
from danna_sep.shapes import FramedFeatures


class Led(NamedTuple):
    """Features behind earlier ones, or zeros before the first.

    Attributes:
        features: As layers hear them, which may be `bordered`.
        n_before: How many frames in front of the new ones are earlier ones.
        new: The new ones alone, without a border: a view of `features`.
    """

    features: FramedFeatures
    n_before: int
    new: FramedFeatures


class Lead(NamedTuple):
    """What a layer needs around new frames.

    Attributes:
        at_first: Frames in front of the track's first, zeros.
        later: Frames in front of later ones.
        has_border: Whether features are to be `bordered`.
    """

    at_first: int
    later: int
    has_border: bool = False


_ROOMS = " rooms"
_STEPS = " steps"
_MOST = 252
"""Steps: as many as eight bits count, but for what bfloat16 may round a quotient up by."""


@dataclass
class Part:
    """What layers keep from part to part, by name, while one part goes through.

    Attributes:
        kept: By name.
        is_last: Whether no more of the track follows.
        coarse: Whether what waits long does so in eight bits.
        cut: Queues from which a part of a piece was taken.
        places: In which what is kept for the next part lies.
        rooms: In which what waits long does so.
    """

    kept: dict[str, tuple[Tensor, ...]]
    is_last: bool
    coarse: bool = False
    cut: set[str] = field(default_factory=set)
    places: Store = field(default_factory=Store)
    rooms: Store = field(default_factory=Store)

    def led(self, name: str, features: FramedFeatures, lead: Lead, *, rectify: bool = False) -> Led:
        """With the end of what went by that name before in front; rectified on the way, if wanted."""
        (before,) = self.kept.get(name, (None,))
        led = _led(before, lead, features, rectify)
        self._keep(name, led.features, lead)
        return led

    def open(self, name: str, shape: Sequence[int], like: Tensor, lead: Lead) -> Led:
        """As `led`, of features of a shape that are still to be written behind; then `close` it."""
        (before,) = self.kept.get(name, (None,))
        return _opened(before, lead, shape, like)

    def close(self, name: str, led: Led, lead: Lead) -> None:
        """When they are written."""
        self._keep(name, led.features, lead)

    def _keep(self, name: str, features: FramedFeatures, lead: Lead) -> None:
        self.keep(name, features[:, :, max(0, features.shape[2] - lead.later) :])

    def keep(self, name: str, features: FramedFeatures) -> None:
        """For the next part; a copy, not a view that would hold all that it is a part of."""
        self.kept[name] = (self._copied(f"{name} place", features),)

    def joined(self, name: str, features: FramedFeatures) -> FramedFeatures:
        """Behind what was kept by that name, if anything was."""
        (before,) = self.kept.get(name, (None,))
        return _led(before, Lead(0, 0), features, False).features

    def put(self, name: str, features: FramedFeatures) -> None:
        """At the end of a queue."""
        self._append(name, features)

    def put_apart(self, name: str, features: FramedFeatures) -> None:
        """Likewise where it will be long until they are taken: in memory apart, which serves again when they were.

        Coarse ones must not be negative: each channel is rounded to 252 steps up to its largest, unless it is in whole
        steps already.
        """
        if features.device.type != "cpu":
            self._append(name, features.clone())
            return
        piece: Tensor = features
        if self.coarse and features.dtype != torch.uint8:
            steps = zip(self.kept.get(name + _STEPS, ()), self.kept.get(name, ()), strict=True)
            step = _step_of(features)
            self.kept[name + _STEPS] = (*(step for step, waiting in steps if waiting.shape[2]), step)
            piece = (features * step.reciprocal()).round_().to(torch.uint8)
        if not piece.numel():
            self._append(name, piece.clone())
            return
        rooms = self.kept.get(name + _ROOMS, ())
        # Rooms in the order in which they were last used, so that the first is free if any is.
        oldest = next((room for room in rooms if room.shape == piece.shape), None)
        is_free = oldest is not None and not any(_holds(oldest, waiting) for waiting in self.kept.get(name, ()))
        put = oldest.copy_(piece) if oldest is not None and is_free else self.rooms.copy(piece)
        self.kept[name + _ROOMS] = (*(room for room in rooms if room is not put), put)
        self._append(name, put)

    def _append(self, name: str, piece: Tensor) -> None:
        self.kept[name] = (*(waiting for waiting in self.kept.get(name, ()) if waiting.shape[2]), piece)

    def _copied(self, place: str, features: Tensor) -> Tensor:
        """A copy that stays where the last one of that place stood, which nobody needs any more.

        New memory has to be had from the system page by page, which takes longer than the copy.
        """
        (room,) = self.kept.get(place, (features[:, :, :0],))
        if features.device.type != "cpu" or not features.shape[2]:
            return features.clone()
        if features.shape[2] > room.shape[2]:
            room = self.places.copy(features)
            self.kept[place] = (room,)
            return room
        if _holds(room, features):
            return features
        return room[:, :, : features.shape[2]].copy_(features)

    def take(self, name: str, n_frames: int) -> list[FramedFeatures]:
        """From the start of a queue, in pieces; at least one of no frames. When they are used, `settle` the queue."""
        taken: list[Tensor] = []
        rest: list[Tensor] = []
        pieces, steps = self.kept[name], self.kept.get(name + _STEPS, ())
        left: tuple[Tensor, ...] = ()
        for i, piece in enumerate(pieces):
            here = min(piece.shape[2], n_frames)
            n_frames -= here
            some = piece[:, :, :here]
            taken.append(some.to(steps[i].dtype).mul_(steps[i]) if steps else some)
            if here < piece.shape[2]:
                rest.append(piece[:, :, here:])
                left += steps[i : i + 1]
                self.cut.update((name,) if here else ())
        # Where nothing is left, a piece of no frames tells the shape.
        self.kept[name] = tuple(rest) or (pieces[-1][:, :, :0].clone(),)
        if steps:
            self.kept[name + _STEPS] = left or steps[-1:]
        return taken

    def settle(self, name: str) -> None:
        """Let go of the memory that what was taken from a queue shares with what is left."""
        if name in self.cut:
            self.cut.remove(name)
            first, *others = self.kept[name]
            self.kept[name] = (self._copied(f"{name} place", first), *others)

    def stack(
        self, queues: Sequence[str], lead: Lead, n_frames: int | None = None, dtype: torch.dtype | None = None
    ) -> Led:
        """The next frames that are in all queues, or `n_frames` of them, as features of one stream.

        Queues that have fewer bins get zeros. Of the first queue's type, if no other is given; see `in_whole_steps`
        for eight bits.
        """
        n_in_all = min(count_frames(self.kept[queue]) for queue in queues)
        n_frames = n_in_all if n_frames is None else min(n_frames, n_in_all)
        taken = [self.take(queue, n_frames) for queue in queues]
        name = f"{queues[0]} stacked"
        first, widths = taken[0][0], [pieces[0].shape[1] for pieces in taken]
        (before,) = self.kept.get(name, (None,))
        shape = (len(first), sum(widths), n_frames, max(pieces[0].shape[3] for pieces in taken))
        led = _opened(before, lead, shape, first, dtype)
        for pieces, place in zip(taken, led.new.split(widths, 1), strict=True):
            start = 0
            for piece in pieces:
                here = place[:, :, start : start + piece.shape[2]]
                write_features(here[..., : piece.shape[3]], piece)
                if piece.shape[3] < here.shape[3]:
                    here[..., piece.shape[3] :] = 0
                start += piece.shape[2]
        for queue in queues:
            self.settle(queue)
        self._keep(name, led.features, lead)
        return led

    def behind(self, features: FramedFeatures, n_frames: int) -> FramedFeatures:
        """With zeros behind the track's last frame."""
        return F.pad(features, (0, 0, 0, n_frames)) if self.is_last else features

    def pool(self, name: str, features: FramedFeatures) -> FramedFeatures:
        """Means of two by two bins and frames."""
        (odd,) = self.kept.get(name, (features[:, :, :0],))
        if odd.shape[2]:
            features = torch.cat((odd, features), 2)
        n_frames = features.shape[2] // 2 * 2
        self.kept[name] = (features[:, :, n_frames:].clone(),)
        if not n_frames:
            return features.new_empty(*features.shape[:2], 0, features.shape[3] // 2)
        return F.avg_pool2d(features[:, :, :n_frames], 2)


def _step_of(features: FramedFeatures) -> Float[Tensor, "batch _feature 1 1"]:
    """So that eight bits reach to the largest of each channel."""
    if not features.numel():
        return features.new_ones(*features.shape[:2], 1, 1)
    largest = F.adaptive_max_pool2d(features, 1)  # as `amax`, which takes ten times as long
    return largest.clamp_min_(torch.finfo(features.dtype).tiny * 2**9) / _MOST


def without_rooms(kept: dict[str, tuple[Tensor, ...]]) -> dict[str, tuple[Tensor, ...]]:
    """What is kept but for memory that would serve again, once nothing more is put apart."""
    return {name: pieces for name, pieces in kept.items() if not name.endswith(_ROOMS)}


def _holds(room: Tensor, piece: Tensor) -> bool:
    """Whether a piece lies in a room."""
    return 0 <= piece.data_ptr() - room.data_ptr() < room.numel() * room.element_size()


def _opened(
    before: Tensor | None, lead: Lead, shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None
) -> Led:
    """Room for features of a shape behind those before, or behind zeros; of a type, if not that of others."""
    batch, n_features, n_frames, n_bins = shape
    n_before = lead.at_first if before is None else before.shape[2]
    shape, dtype = (batch, n_features, n_before + n_frames, n_bins), dtype or like.dtype
    if lead.has_border:
        whole = bordered(shape, dtype, like.device)
        new = inside(whole, n_features)[:, :, n_before:]
    else:
        whole = torch.empty(shape, dtype=dtype, device=like.device, memory_format=torch.channels_last)
        new = whole[:, :, n_before:]
    if n_before:
        whole[:, :, :n_before] = 0 if before is None else before
    return Led(whole, n_before, new)


def _led(before: Tensor | None, lead: Lead, features: FramedFeatures, rectify: bool) -> Led:
    """Features behind those before, or behind zeros."""
    led = _opened(before, lead, features.shape, features)
    if rectify:
        torch.clamp_min(features, 0, out=led.new)
    else:
        led.new.copy_(features)
    return led


def count_frames(pieces: Sequence[Tensor]) -> int:
    """Of all pieces of a queue."""
    return sum(piece.shape[2] for piece in pieces)
