"""An LSTM along several sequences at once, against PyTorch's own along each."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from danna_sep.models import lstm_together
from danna_sep.models.lstm_together import gains_together, remember_together

needs_operators = pytest.mark.skipif(
    not lstm_together._has_operators(torch.float32), reason="PyTorch has no packed linear layers"
)


def random_lstm(n_layers: int = 2, hidden: int = 24) -> nn.LSTM:
    torch.manual_seed(0)
    return nn.LSTM(20, hidden, n_layers, batch_first=True, bidirectional=True).eval()


@needs_operators
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("n_sequences", [1, 2, 3, 5])
def test_it_is_the_lstm_itself(n_layers: int, n_sequences: int) -> None:
    lstm = random_lstm(n_layers)
    frames = 3 * torch.randn(n_sequences, 50, 20)
    before = {name: value.clone() for name, value in lstm.state_dict().items()}
    with torch.no_grad():
        together = remember_together(lstm, frames)
        torch.testing.assert_close(together, lstm(frames)[0], rtol=0, atol=3e-6)
    assert all(torch.equal(value, before[name]) for name, value in lstm.state_dict().items())


@pytest.mark.skipif(not lstm_together._has_operators(torch.bfloat16), reason="no packed linear layers in bfloat16 here")
def test_in_bfloat16_it_is_as_near_to_the_lstm_as_pytorchs_own() -> None:
    """Cells that were rounded to bfloat16 at every step would be five times as far off."""
    lstm = random_lstm(hidden=96)
    frames = 3 * torch.randn(3, 200, 20)
    with torch.no_grad():
        exact = lstm(frames)[0]
        low, lstm = frames.to(torch.bfloat16), lstm.to(torch.bfloat16)
        error = (remember_together(lstm, low) - exact).square().mean()
        usual = (lstm(low)[0] - exact).square().mean()
    assert error < 1.5 * usual


def test_where_it_gains_nothing_pytorchs_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstm_together, "_LEAST_HIDDEN", 24)
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        known = dtype != torch.float64 and lstm_together._has_operators(dtype)
        assert gains_together(random_lstm().to(dtype)) == known
    assert not gains_together(random_lstm(hidden=23))
    assert not gains_together(random_lstm().to("meta"))
    assert not gains_together(nn.LSTM(20, 24, batch_first=True))
    monkeypatch.setattr(lstm_together, "_has_operators", lambda dtype: False)
    assert not gains_together(random_lstm())
