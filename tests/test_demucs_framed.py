"""Demucs laid out for speed is Demucs."""

from __future__ import annotations

import copy
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from danna_sep.models import Demucs, DemucsConfig, demucs_framed, demucs_rows, lstm_together
from danna_sep.models.convolution import fuses
from danna_sep.models.demucs_framed import FramedDemucs, framed
from danna_sep.models.precision import has_fast_bf16, lower
from danna_sep.separators import WaveformSeparator
from distance import below_db

needs_operators = pytest.mark.skipif(
    not fuses(torch.zeros(1)), reason="PyTorch has not the convolutions that it is faster with"
)
CONFIGS = [
    DemucsConfig(width=4, n_layers=4),
    DemucsConfig(width=8, n_layers=5, n_lstm_layers=1),
    DemucsConfig(width=4, n_layers=6),
    DemucsConfig(width=6, n_layers=4, kernel=4, stride=2),
]


def random_demucs(config: DemucsConfig) -> Demucs:
    torch.manual_seed(2)
    return Demucs(config).eval().requires_grad_(False)


def _decoder(laid_out: nn.Module) -> list[demucs_rows.DecoderLayer]:
    return cast("FramedDemucs", laid_out)._decoder


def noise(n_samples: int, n_items: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(n_samples)
    return torch.randn(n_items, 2, n_samples, generator=generator) * torch.linspace(0.1, 1, n_samples)


@needs_operators
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.n_layers} layers, stride {config.stride}")
@pytest.mark.parametrize(
    ("n_samples", "n_rows"), [(1, 3), (47, 3), (3000, 3), (13001, 40), (90000, 40), (90000, demucs_framed._N_ROWS)]
)
def test_it_is_demucs(config: DemucsConfig, n_samples: int, n_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any length, in whatever parts the outer layers are computed."""
    monkeypatch.setattr(demucs_framed, "_N_ROWS", n_rows)
    model = random_demucs(config)
    mixtures = noise(n_samples, n_items=2)
    expected = model(mixtures)
    heard = mixtures.clone()
    stems = framed(copy.deepcopy(model))(heard)
    assert stems.shape == expected.shape
    assert torch.equal(heard, mixtures)
    assert (stems - expected).abs().max() < 2e-5 * expected.abs().max()


@needs_operators
@pytest.mark.parametrize(("n_samples", "n_rows"), [(1, 3), (47, 3), (3000, 3), (13001, 40), (90000, 2048)])
def test_with_fewer_products_it_is_demucs(n_samples: int, n_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In all layers, and where there are fewer rows than come together."""
    monkeypatch.setattr(demucs_framed, "_N_ROWS", n_rows)
    monkeypatch.setattr(demucs_rows, "_LEAST_SPARING", 1)
    model = random_demucs(DemucsConfig(width=8, n_layers=4))
    mixtures = noise(n_samples, n_items=2)
    expected = model(mixtures)
    laid_out = framed(copy.deepcopy(model))
    assert {type(layer._units[0]) for layer in _decoder(laid_out)} == {demucs_rows._SparingUnit}
    assert below_db(laid_out(mixtures), expected) > 105


@needs_operators
def test_layers_that_pay_for_sums_have_fewer_products() -> None:
    """In the paper's size the two in the middle, in single precision; the result stands 105 dB above what that costs.

    In bfloat16 sums are too coarse.
    """
    model = random_demucs(DemucsConfig(width=96, n_layers=4, n_lstm_layers=1))
    mixture = noise(60000)
    expected = model(mixture)
    laid_out = framed(model)
    assert below_db(laid_out(mixture), expected) > 105
    spared = [isinstance(layer._units[0], demucs_rows._SparingUnit) for layer in _decoder(laid_out)]
    assert spared == [False, True, True, False]
    assert not demucs_rows._sums_pay(torch.zeros(768, 192, 3, dtype=torch.bfloat16))


@needs_operators
@pytest.mark.skipif(not has_fast_bf16(), reason="this processor has no fast bfloat16")
def test_in_bfloat16_it_is_as_near_as_demucs() -> None:
    """To what single precision gives: no further off than the other order of sums makes it."""
    model = random_demucs(DemucsConfig(width=16, n_layers=5))
    mixture = noise(40000)
    exact = model(mixture)
    lower(model)
    error = (model(mixture) - exact).square().mean()
    assert (framed(model)(mixture) - exact).square().mean() < 1.2 * error


@needs_operators
def test_a_window_that_holds_all_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And smaller ones change no more than what the LSTM would have remembered."""
    monkeypatch.setattr(lstm_together, "_LEAST_HIDDEN", 1)
    model = framed(random_demucs(DemucsConfig(width=4, n_layers=4)))
    assert isinstance(model, FramedDemucs)
    mixture = noise(60000)
    whole = model(mixture)
    assert torch.equal(model.in_windows(mixture, 60000), whole)
    errors = [
        float((model.in_windows(mixture, n) - whole).square().mean() / whole.square().mean())
        for n in (30000, 15000, 2000)
    ]
    assert 0 < errors[0] < errors[1] < errors[2] < 0.1
    assert errors[0] < 1e-3
    assert WaveformSeparator(model).has_windows
    # An LSTM that gains nothing remembers all.
    monkeypatch.setattr(lstm_together, "_LEAST_HIDDEN", 10**6)
    torch.manual_seed(0)
    model = framed(random_demucs(DemucsConfig(width=4, n_layers=4)))
    assert isinstance(model, FramedDemucs)
    assert torch.equal(model.in_windows(mixture, 2000), model(mixture))
    assert not WaveformSeparator(model).has_windows


@needs_operators
def test_windows_cross_fade(monkeypatch: pytest.MonkeyPatch) -> None:
    """What all windows say alike comes through as it is: weights sum to one at every step."""
    monkeypatch.setattr(demucs_framed, "gains_together", lambda lstm: True)
    monkeypatch.setattr(demucs_framed, "remember_together", lambda lstm, frames: torch.cat((frames, frames), -1))
    model = framed(random_demucs(DemucsConfig(width=4, n_layers=4)))
    assert isinstance(model, FramedDemucs)
    for n_steps in (49, 50, 97, 200):
        heard = torch.randn(n_steps, 32)
        remembered = model._remembered(heard, 48 * 4**4 // 2)
        torch.testing.assert_close(remembered, torch.cat((heard, heard), -1))


@needs_operators
def test_the_model_gives_its_weights_away() -> None:
    """Layer by layer: a large model is never there twice."""
    model = random_demucs(DemucsConfig(width=4, n_layers=4))
    n_before = sum(parameter.numel() for parameter in model.parameters())
    taken = framed(model)
    assert all(isinstance(layer, nn.Identity) for layer in [*model.encoder, *model.decoder])
    assert 0 < sum(parameter.numel() for parameter in taken.parameters()) < n_before
    assert WaveformSeparator(taken).device == torch.device("cpu")


def test_what_it_is_not_made_for_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    training = Demucs(DemucsConfig(width=4, n_layers=4))
    for model in (
        nn.Linear(2, 2),
        training,
        random_demucs(DemucsConfig(width=4, n_layers=4, separate_decoders=False)),
        random_demucs(DemucsConfig(width=4, n_layers=4, kernel=8, stride=2)),
        random_demucs(DemucsConfig(width=4, n_layers=2)),
        random_demucs(DemucsConfig(width=4, n_layers=4)).to("meta"),
    ):
        assert framed(model) is model
    monkeypatch.setattr(demucs_framed, "fuses", lambda weight: False)
    model = random_demucs(DemucsConfig(width=4, n_layers=4))
    assert framed(model) is model
    assert not WaveformSeparator(model).has_windows


@needs_operators
def test_sources_that_are_not_wanted_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are come out to the last bit as among all, in the order asked for."""
    model = framed(random_demucs(DemucsConfig(width=4, n_layers=4)))
    assert isinstance(model, FramedDemucs)
    mixture = noise(20000)
    whole = model(mixture)
    decoded: list[int] = []
    decode_outer = FramedDemucs._decode_outer
    monkeypatch.setattr(
        FramedDemucs,
        "_decode_outer",
        lambda self, source, *rest: decoded.append(source) or decode_outer(self, source, *rest),
    )
    separator = WaveformSeparator(model, sources=("vocals", "bass"))
    assert torch.equal(separator(mixture), whole[:, [3, 1]])
    assert decoded == [3, 1]
