"""The squared error of masked spectra against the same written plainly, with gradients by autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from danna_sep.training import squared_error as module
from danna_sep.training.squared_error import squared_error


def drawn(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mask, mixture, references and quadratic form of two items; spectra as `stft` lays them out."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    mask = normal(2, 4, 2, 33, 5).abs().requires_grad_()
    references = torch.complex(normal(2, 4, 2, 5, 33), normal(2, 4, 2, 5, 33)).transpose(-1, -2)
    factor = normal(2, 4, 4)
    return mask, references.sum(1), references, factor @ factor.mT


def plainly(
    mask: Tensor, mixture: Tensor, references: Tensor, quadratic: Tensor, *, is_complex: bool, epsilon: float | None
) -> Tensor:
    if is_complex:
        error = torch.view_as_real(mask * mixture.unsqueeze(1) - references)
    else:
        error = (mask * mixture.abs().unsqueeze(1) - references.abs()).unsqueeze(-1)
    squares = torch.einsum("bs...,bst,bt...->b...", error, quadratic, error).sum(-1)
    return (squares if epsilon is None else squares / (mixture.abs() + epsilon)).sum()


@pytest.mark.parametrize("is_complex", [True, False])
@pytest.mark.parametrize("epsilon", [None, 0.1])
@pytest.mark.parametrize("chunk_size", [1, 2 * 4 * 2 * 5 * 7, 2**20])
def test_value_and_gradient(
    monkeypatch: pytest.MonkeyPatch, is_complex: bool, epsilon: float | None, chunk_size: int
) -> None:
    """Bin by bin, a few at a time with a rest, and all at once."""
    monkeypatch.setitem(module._CHUNK_SIZE, "cpu", chunk_size)
    mask, *others = drawn()
    value = squared_error(mask, *others, is_complex=is_complex, epsilon=epsilon)
    expected = plainly(mask, *others, is_complex=is_complex, epsilon=epsilon)
    torch.testing.assert_close(value, expected)
    (gradient,) = torch.autograd.grad(3 * value, mask)
    torch.testing.assert_close(gradient, torch.autograd.grad(3 * expected, mask)[0])


def test_it_is_exact_in_single_precision() -> None:
    """Though it adds up many squares of very different size."""
    mask, mixture, references, quadratic = (each.detach() for each in drawn())
    steep = torch.logspace(0, -4, 33, dtype=torch.float64)[:, None]
    some = [mask, mixture * steep, references * steep, quadratic]
    exact = squared_error(*some, is_complex=True)
    single = [each.to(torch.complex64 if each.is_complex() else torch.float32) for each in some]
    assert float(squared_error(*single, is_complex=True)) == pytest.approx(float(exact), rel=1e-6)


def test_bins_that_are_silent_have_gradients() -> None:
    mask, mixture, references, quadratic = drawn()
    value = squared_error(mask, 0 * mixture, 0 * references, quadratic, is_complex=True, epsilon=0.1)
    (gradient,) = torch.autograd.grad(value, mask)
    assert float(value.detach()) == 0
    assert float(gradient.abs().max()) == 0
