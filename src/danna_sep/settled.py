"""What is known of a track so far, handed out by segments."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor


class Settled:
    """What is known of a track, from where the next segment begins."""

    def __init__(self, hop: int) -> None:
        self.hop, self.length = hop, 0
        self.parts: deque[Tensor] = deque()

    def put(self, part: Tensor) -> None:
        """What follows; in memory of its own, if it may stay long."""
        self.parts.append(part)
        self.length += part.shape[-1]

    def next_segment(self, length: int) -> Tensor:
        """Of the next segment. What lies before the one after it is forgotten."""
        taken: list[Tensor] = []
        n_missing = length
        for part in self.parts:
            taken.append(part[..., :n_missing])
            n_missing -= taken[-1].shape[-1]
        n_gone = self.hop
        while self.parts and n_gone:
            part = self.parts.popleft()
            if part.shape[-1] > n_gone:
                self.parts.appendleft(part[..., n_gone:])
            n_gone -= min(n_gone, part.shape[-1])
        self.length -= self.hop - n_gone
        return torch.cat(taken, -1)
