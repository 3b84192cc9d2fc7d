"""A bidirectional LSTM along a track that comes in parts, against the LSTM over all of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from danna_sep.models.lstm_stream import LSTMStream


def random_lstm(n_layers: int) -> nn.LSTM:
    torch.manual_seed(0)
    return nn.LSTM(5, 4, n_layers, batch_first=True, bidirectional=True).eval()


@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("n_settled", [[30], [1, 29], [10, 7, 13]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_given_all_that_follows_it_is_the_lstm_itself(n_layers: int, n_settled: list[int], dtype: torch.dtype) -> None:
    """So that what is behind is remembered in full: nothing else tells it here."""
    lstm = random_lstm(n_layers).to(dtype)
    frames = torch.randn(2, 30, 5, dtype=dtype)
    stream = LSTMStream(lstm)
    with torch.no_grad():
        whole, _ = lstm(frames)
        parts, start = [], 0
        for n in n_settled:
            parts.append(stream.push(frames[:, start:], n))
            start += n
    rounding = 1e-6 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=rounding)


def test_what_it_is_not_given_it_does_not_hear() -> None:
    """Against the direction of time, that is: the error is the greater the fewer frames follow."""
    lstm = random_lstm(1)
    frames = torch.randn(1, 200, 5)
    with torch.no_grad():
        whole, _ = lstm(frames)
        errors = [
            float((LSTMStream(lstm).push(frames[:, : 100 + n_ahead], 100) - whole[:, :100]).abs().max())
            for n_ahead in (0, 5, 20, 100)
        ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1e-2
    assert errors[-1] < 1e-6


def test_its_parameters_are_the_lstms_own() -> None:
    """Copies would cost what the weights take, 75 MB for an X-UMX of full size."""
    lstm = random_lstm(2)
    stream = LSTMStream(lstm)
    frames = torch.randn(1, 8, 5)
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.mul_(0.5)
        torch.testing.assert_close(stream.push(frames, 8), lstm(frames)[0])
