"""A bidirectional LSTM along a track whose frames come in parts."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LSTMStream:
    """Remembers all frames before a part, and hears some behind it.

    In the direction of time it computes what the LSTM makes of the whole track. Against it, it starts anew at the last
    frame given, so what lies behind that one is missing.

    Args:
        lstm: Bidirectional, outside training, its axes batch, frame, feature.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        layers = range(lstm.num_layers)
        self._onwards = [_one_direction(lstm, f"_l{layer}") for layer in layers]
        self._backwards = [_one_direction(lstm, f"_l{layer}_reverse") for layer in layers]
        self._states: list[tuple[Tensor, Tensor] | None] = [None for _ in layers]

    def push(
        self, frames: Float[Tensor, "batch _frame _feature"], n_settled: int
    ) -> Float[Tensor, "batch _settled _hidden"]:
        """What the LSTM gives for the next frames of the track.

        Args:
            frames: Those, and some behind them, which have to be given again.
            n_settled: How many they are, at least one.
        """
        for layer, (onwards, backwards) in enumerate(zip(self._onwards, self._backwards, strict=True)):
            passed, state = onwards(frames[:, :n_settled], self._states[layer])
            self._states[layer] = state
            if n_settled < frames.shape[1]:
                passed = torch.cat((passed, onwards(frames[:, n_settled:], state)[0]), 1)
            frames = torch.cat((passed, backwards(frames.flip(1))[0].flip(1)), 2)
        return frames[:, :n_settled]


def _one_direction(lstm: nn.LSTM, suffix: str) -> nn.LSTM:
    """One layer of one direction by itself, with the same parameters."""
    weights = {name: getattr(lstm, name + suffix) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    with torch.device("meta"):
        one = nn.LSTM(weights["weight_ih"].shape[1], lstm.hidden_size, batch_first=True)
    for name, weight in weights.items():
        # On a GPU an LSTM's weights are to stand in one piece of memory, here in another one than those of the whole.
        setattr(one, f"{name}_l0", nn.Parameter(weight.detach().clone(), False) if weight.is_cuda else weight)
    one.flatten_parameters()
    return one.eval()
