"""Laws of the Wiener filter, and agreement with norbert."""

from __future__ import annotations

from pathlib import Path

import norbert
import numpy as np
import pytest
import torch
from fill import generator
from torch import Tensor

import danna_sep.signal.wiener as module
from danna_sep.signal.spatial import spatial_covariance, spatial_sums
from danna_sep.signal.wiener import filter_spec, magnitude_to_spec, scale_of, wiener, with_residual
from distance import below_db

GOLDEN = np.load(Path(__file__).parent / "reference" / "golden.npz")


def golden_inputs(seed: int = 1) -> tuple[Tensor, Tensor]:
    rng = generator(seed, "wiener")
    x = (rng.standard_normal((40, 33, 2)) + 1j * rng.standard_normal((40, 33, 2))) * rng.uniform(0.1, 30, (40, 33, 1))
    v = rng.uniform(0, 1, (40, 33, 2, 4)) * abs(x)[..., None]
    return torch.from_numpy(v).permute(3, 2, 1, 0), torch.from_numpy(x).permute(2, 1, 0)


def random_inputs(amplitude: float = 1.0, seed: int = 0, n_sources: int = 4) -> tuple[Tensor, Tensor]:
    """Sources that are panned differently, so that the filter has something to find."""
    rng = torch.Generator().manual_seed(seed)
    sources = torch.randn(n_sources, 1, 20, 50, dtype=torch.complex128, generator=rng)
    pans = torch.randn(n_sources, 2, 1, 1, dtype=torch.complex128, generator=rng)
    stems = amplitude * sources * pans * torch.rand(n_sources, 1, 1, 50, dtype=torch.float64, generator=rng)
    errors = 0.5 + torch.rand(stems.shape, dtype=torch.float64, generator=rng)
    return stems.abs() * errors, stems.sum(0)


def norberts(v: Tensor, x: Tensor, n_iterations: int, softmask: bool = False) -> Tensor:
    stems = norbert.wiener(v.permute(3, 2, 1, 0).numpy(), x.permute(2, 1, 0).numpy().copy(), n_iterations, softmask)
    return torch.from_numpy(stems).permute(3, 2, 1, 0)


@pytest.mark.parametrize("n_iterations", [0, 1, 2])
@pytest.mark.parametrize("softmask", [False, True])
def test_golden(n_iterations: int, softmask: bool) -> None:
    v, x = golden_inputs()
    golden = torch.from_numpy(GOLDEN[f"wiener_iter{n_iterations}_soft{int(softmask)}"]).permute(3, 2, 1, 0)
    ours = wiener(v, x, n_iterations, softmask)
    assert (ours - golden).abs().max() < 1e-6 * golden.abs().max()


def test_golden_residual() -> None:
    v, x = golden_inputs()
    golden = torch.from_numpy(GOLDEN["wiener_residual"]).permute(3, 2, 1, 0)
    ours = wiener(with_residual(v[:2], x), x)
    assert (ours - golden).abs().max() < 1e-6 * golden.abs().max()
    assert below_db(wiener(v[:2], x, residual=True), ours[:2]) > 120


@pytest.mark.parametrize("amplitude", [1e-4, 1, 100])
@pytest.mark.parametrize("n_iterations", [1, 2])
@pytest.mark.parametrize("softmask", [False, True])
def test_agrees_with_norbert(amplitude: float, n_iterations: int, softmask: bool) -> None:
    v, x = random_inputs(amplitude)
    assert below_db(wiener(v, x, n_iterations, softmask), norberts(v, x, n_iterations, softmask)) > 150


@pytest.mark.parametrize("amplitude", [1e-4, 1, 100])
@pytest.mark.parametrize("n_iterations", [0, 1, 2])
def test_a_residual_agrees_with_norbert(amplitude: float, n_iterations: int) -> None:
    v, x = random_inputs(amplitude)
    model = norbert.residual_model(v.permute(3, 2, 1, 0).numpy(), x.permute(2, 1, 0).numpy())
    theirs = norberts(torch.from_numpy(model).permute(3, 2, 1, 0), x, n_iterations)
    assert below_db(wiener(v, x, n_iterations, residual=True), theirs[: len(v)]) > 150


@pytest.mark.parametrize("amplitude", [1e-4, 1, 100])
def test_single_precision_agrees_with_norbert_in_double(amplitude: float) -> None:
    v, x = random_inputs(amplitude)
    ours = wiener(v.float(), x.to(torch.complex64))
    assert ours.dtype == torch.complex64
    assert below_db(ours.to(torch.complex128), norberts(v, x, 1)) > 100


def test_identical_channels_in_single_precision() -> None:
    """The 2x2 covariance is singular there: its determinant must not be lost to rounding."""
    v, x = random_inputs()
    v, x = v[:, :1].expand(-1, 2, -1, -1), x[:1].expand(2, -1, -1)
    ours = wiener(v.float(), x.to(torch.complex64))
    assert below_db(ours.to(torch.complex128), norberts(v.contiguous(), x.contiguous(), 1)) > 100


def test_stems_sum_to_the_mixture() -> None:
    """Each stem is a share of the mixture: nothing is added, and hardly anything is lost."""
    v, x = random_inputs(10)
    assert below_db(wiener(v, x).sum(0), x) > 60


@pytest.mark.parametrize("amplitude", [1.0, 1e9])
@pytest.mark.parametrize("n_iterations", [0, 1, 2])
@pytest.mark.parametrize("residual", [False, True])
def test_shares_and_what_stems_are_added_to(amplitude: float, n_iterations: int, residual: bool) -> None:
    """Else blends would be other sums than of their models' stems."""
    v, x = random_inputs(amplitude)
    shares = torch.tensor([0.5, 0.0, 2.0, -1.0])
    before, _ = random_inputs(amplitude, seed=1)
    stems = wiener(v, x, n_iterations, residual=residual) * shares[:, None, None, None]
    assert below_db(wiener(v, x, n_iterations, residual=residual, shares=shares), stems) > 250
    total = before.to(x.dtype)
    given = wiener(v, x, n_iterations, residual=residual, shares=shares, onto=total)
    assert given is total
    assert below_db(total, before + stems) > 250


def test_statistics_of_parts_add_up() -> None:
    """A track filtered part by part, with accumulated statistics, is the track filtered at once."""
    v, x = random_inputs(100)
    scale = scale_of(x)
    parts = [slice(0, 7), slice(7, 30), slice(30, 50)]
    estimates = [magnitude_to_spec(v[..., part], x[..., part]) / scale for part in parts]
    first, second, third = (spatial_sums(estimate) for estimate in estimates)
    covariance = spatial_covariance(first + second + third)
    filtered = [
        filter_spec(x[..., part] / scale, estimate, covariance) * scale
        for part, estimate in zip(parts, estimates, strict=True)
    ]
    whole = wiener(v, x)
    assert (torch.cat(filtered, -1) - whole).abs().max() < 1e-12 * whole.abs().max()


def test_items_of_a_batch_are_independent() -> None:
    loud, quiet = random_inputs(100, seed=1), random_inputs(0.01, seed=2)
    together = wiener(torch.stack((loud[0], quiet[0])), torch.stack((loud[1], quiet[1])))
    assert torch.allclose(together[0], wiener(*loud), rtol=1e-12)
    assert torch.allclose(together[1], wiener(*quiet), rtol=1e-12)


@pytest.mark.parametrize("adds", [False, True])
def test_in_buffers_as_without(adds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is filtered in memory used again is what is filtered with slopes; in several parts, the last a small one."""
    batch = [torch.stack(parts) for parts in zip(random_inputs(1), random_inputs(100, seed=2), strict=True)]
    as_whole = wiener(batch[0].requires_grad_(), batch[1]).detach()
    monkeypatch.setattr(module, "_CHUNK_SIZE", 2 * 4 * 2 * 50 * 3)  # of 20 bins, three at a time
    before = torch.stack([magnitude_to_spec(*random_inputs(seed=seed)) for seed in (3, 4)])
    ours = wiener(batch[0].detach(), batch[1], onto=before.clone() if adds else None)
    assert below_db(ours, before + as_whole if adds else as_whole) > 250


def test_inputs_are_left_untouched() -> None:
    v, x = random_inputs(100)
    v_before, x_before = v.clone(), x.clone()
    wiener(v, x, 2, residual=True)
    wiener(v, x)
    assert torch.equal(v, v_before)
    assert torch.equal(x, x_before)


@pytest.mark.parametrize("softmask", [False, True])
def test_gradients_are_those_of_finite_differences(softmask: bool) -> None:
    v, x = random_inputs(n_sources=2)
    v = v[..., :3, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: torch.view_as_real(wiener(v, x[..., :3, :4], 1, softmask)), v)


@pytest.mark.parametrize("kind", ["silence", "mono", "antiphase", "loud", "one channel", "nothing estimated"])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_values_and_gradients_are_finite(kind: str, dtype: torch.dtype) -> None:
    v, x = random_inputs()
    if kind == "silence":
        x = torch.zeros_like(x)
    elif kind == "mono":
        x = x[:1].expand(2, -1, -1)
    elif kind == "antiphase":
        x = x[:1] * torch.tensor([1, -1])[:, None, None]
    elif kind == "loud":
        v, x = 1e4 * v, 1e4 * x
    elif kind == "one channel":
        x = x * torch.tensor([1, 0])[:, None, None]
    elif kind == "nothing estimated":
        v = torch.zeros_like(v)
    x = x.to(dtype).clone()
    x[..., 3, 5] = 0
    v = v.to(x.real.dtype).requires_grad_()
    for n_iterations in (0, 1, 2):
        x = x.detach().requires_grad_()
        v.grad = None
        stems = wiener(v, x, n_iterations)
        stems.abs().square().sum().backward()
        assert v.grad is not None
        assert x.grad is not None
        assert stems.isfinite().all()
        assert v.grad.isfinite().all()
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("faint", [1e-10, 1e-17, 1e-22, 0])
@pytest.mark.parametrize("channel", [slice(None), 1])
def test_phases_of_what_is_hardly_there(faint: float, channel: slice | int) -> None:
    """Powers of faint numbers lose their digits, in single precision below 1e-15; an estimate may be loud there."""
    v, x = random_inputs()
    x[channel, ..., 10:30] *= faint
    x += 0  # for NumPy the angle of a negative zero is pi
    ours = wiener(v.float(), x.to(torch.complex64), 1)
    assert below_db(ours.to(torch.complex128), norberts(v, x, 1)) > 100


def test_any_view_of_the_mixture_will_do() -> None:
    v, x = random_inputs()
    assert torch.allclose(wiener(v, x.conj()), wiener(v, x.conj().resolve_conj()))
    assert torch.allclose(wiener(v, x.mT.contiguous().mT), wiener(v, x))


@pytest.mark.parametrize("n_iterations", [0, 1])
def test_no_loudness_is_too_much(n_iterations: int) -> None:
    """Spectra whose powers single precision does not hold."""
    v, x = random_inputs()
    v, x = v.float(), x.to(torch.complex64)
    loud = wiener(1e20 * v, 1e20 * x, n_iterations)
    scaled_down = 1e20 / float(scale_of(1e20 * x))
    assert below_db(loud / 1e20, wiener(scaled_down * v, scaled_down * x, n_iterations) / scaled_down) > 100
