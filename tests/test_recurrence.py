"""Stems averaged over the places of a song that sound alike: against a plain version, and in blocks and segments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
import torch
from torch import Tensor

from danna_sep.errors import ConfigError
from danna_sep.evaluation.metrics import mdx_sdr_db
from danna_sep.mask_session import only_masks
from danna_sep.recurring import Recurring
from danna_sep.separators import Separator, only
from danna_sep.signal import recurrence
from danna_sep.signal.recurrence import CHUNK, HOP, Recurrence
from danna_sep.streaming import default_segment_s, segment_grid, stream
from danna_sep.types import SAMPLE_RATE, SOURCES
from distance import below_db

N_CHUNK = CHUNK * HOP


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def averaged(blocks: Iterable[Tensor]) -> Tensor:
    averaging = Recurrence()
    found = [settled for block in blocks for settled in averaging.push(block)]
    return torch.cat([*found, *averaging.finish()], -1)


def song(n_loops: int, seed: int = 0) -> Tensor:
    """Four stems of 1.2 s times so many; each plays one of three chords at a time, in an order of its own."""
    rng = np.random.default_rng(seed)
    n_note = round(0.3 * SAMPLE_RATE)
    time_s = np.arange(n_note) / SAMPLE_RATE
    stems = []
    for lowest_hz in (110, 55, 165, 220):
        partials_hz = np.geomspace(lowest_hz, 5000, 12) * rng.uniform(0.9, 1.1, (3, 12))
        sizes = rng.exponential(1, (3, 12, 2)) / np.arange(1, 13)[:, None]
        phases = 2 * np.pi * rng.uniform(0, 1, (3, 12, 1))
        waves = np.sin(2 * np.pi * partials_hz[..., None] * time_s + phases)
        chords = np.einsum("kpt,kpc->kct", waves, sizes) * np.exp(-3 * time_s)
        stems.append(np.concatenate([chords[each] for each in rng.integers(0, 3, 4 * n_loops)], -1))
    return torch.from_numpy(0.1 * np.stack(stems).astype(np.float32))


def misjudged(stems: Tensor, seed: int = 5) -> Tensor:
    """Estimates whose masks err in every bin of every frame in another way, and add up to the mixture."""
    _, _, spec = scipy.signal.stft(stems.numpy(), nperseg=4096, noverlap=3072)
    rng = np.random.default_rng(seed)
    guess = np.abs(spec) * np.exp(rng.normal(0, 1, spec[:, :1].shape)) + 1e-9
    _, estimates = scipy.signal.istft(guess / guess.sum(0) * spec.sum(0), nperseg=4096, noverlap=3072)
    return torch.from_numpy(estimates[..., : stems.shape[-1]].astype(np.float32))


def plainly_averaged(stems: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """All frames of a track with all others, as the text has it; of a track that is shorter than what waits."""
    n_samples, n_window, n_bins = stems.shape[-1], 2 * HOP, 1800
    n_frames = -(-n_samples // HOP) + 1
    padded = np.pad(stems, ((0, 0), (0, 0), (HOP, n_frames * HOP - n_samples)))
    window = scipy.signal.get_window("hann", n_window)
    spec = np.stack([np.fft.rfft(window * padded[..., k * HOP :][..., :n_window]) for k in range(n_frames)], 2)
    magnitude = np.sqrt((np.abs(spec[..., :n_bins]) ** 2).mean(1))
    level = np.sqrt((magnitude.sum(0) ** 2).mean(-1))
    logs = np.log(magnitude + 0.05 * level[:, None] + 1e-30)
    edges = np.unique(np.round(np.geomspace(3, n_bins, 129)).astype(int))
    gains = np.ones_like(magnitude)
    for source in range(len(stems)):
        bands = [magnitude[source, :, a:b] for a, b in pairwise(edges)]
        levels = np.stack([np.sqrt((band**2).mean(-1)) for band in bands], -1) ** 0.5
        seen = []
        for frame in range(n_frames):
            around = [levels[k] if 0 <= k < n_frames else 0 * levels[0] for k in range(frame - 2, frame + 3)]
            seen.append(np.concatenate([w * each for w, each in zip((0.49, 0.7, 1, 0.7, 0.49), around, strict=True)]))
        for frame in range(n_frames):
            weights = np.zeros(n_frames)
            for other in range(n_frames):
                size = np.linalg.norm(seen[frame]) * np.linalg.norm(seen[other])
                lag = abs(other - frame)
                if lag >= 4 and size:
                    louder = np.log(level[frame] + 1e-30) - np.log(level[other] + 1e-30)
                    alike = seen[frame] @ seen[other] / size
                    weights[other] = np.exp((alike - 1) / 0.05 - (louder / 1.5) ** 2 - lag / 359)
            if n_frames > 60:
                weights = np.maximum(weights - np.sort(weights)[-61], 0)
            total = 0.3 * logs[source, frame] + weights @ logs[source]
            gains[source, frame] = np.exp(total / (0.3 + weights.sum()) - logs[source, frame])
    heard, shares = spec[..., :n_bins], magnitude * gains
    shares = shares / np.maximum(shares.sum(0), 1e-30)
    phases = heard / np.maximum(magnitude, 1e-30)[:, None]
    kept = phases * (magnitude.sum(0) * shares)[:, None]
    spec[..., :n_bins] = kept + shares[:, None] * (heard - kept).sum(0)
    signal, weights = np.zeros_like(padded), np.zeros(padded.shape[-1])
    for k in range(n_frames):
        signal[..., k * HOP :][..., :n_window] += window * np.fft.irfft(spec[:, :, k], n_window)
        weights[k * HOP :][:n_window] += window**2
    return (signal / np.maximum(weights, 1e-9))[..., HOP : HOP + n_samples]


def test_it_agrees_with_a_plain_version() -> None:
    """Half precision in the bank is what differs."""
    estimates = misjudged(song(7))
    assert estimates.shape[-1] < (1 + recurrence.N_AHEAD) * N_CHUNK
    expected = torch.from_numpy(plainly_averaged(estimates.double().numpy()))
    assert below_db(averaged([estimates]).double(), expected) > 55


def test_what_recurs_is_estimated_better() -> None:
    stems = song(10)
    estimates = misjudged(stems)
    gain = mdx_sdr_db(stems, averaged([estimates])) - mdx_sdr_db(stems, estimates)
    assert gain.min() > 0.5, gain


@pytest.mark.parametrize("n_samples", [1, HOP - 1, HOP, HOP + 1, N_CHUNK, 3 * N_CHUNK + 1])
def test_stems_keep_their_length_and_their_sum(n_samples: int) -> None:
    estimates = noise(4, 2, n_samples)
    found = averaged([estimates])
    assert found.shape == estimates.shape
    assert below_db(found.sum(0), estimates.sum(0)) > 110


def test_it_does_not_depend_on_how_the_track_is_cut() -> None:
    estimates = misjudged(song(16))
    whole = averaged([estimates])
    for lengths in ((1, 200_000, 0, 70_001), (100_000,)):
        cuts = [*lengths, estimates.shape[-1] - sum(lengths)]
        assert below_db(averaged(iter(estimates.split(cuts, -1))), whole) > 100


def test_tracks_are_apart() -> None:
    together = torch.stack((misjudged(song(4)), 1e-3 * misjudged(song(4, seed=50)), torch.zeros_like(song(4))))
    found = averaged([together])
    assert not found[2].any()
    for item, expected in zip(found[:2], together[:2], strict=True):
        assert below_db(item, averaged([expected])) > 100


@pytest.mark.parametrize("gain", [1e-6, 1e6, 1e20])
def test_levels_do_not_matter(gain: float) -> None:
    estimates = misjudged(song(5))
    assert below_db(averaged([gain * estimates]), gain * averaged([estimates])) > 50


def test_a_stem_that_is_silent_stays_silent() -> None:
    estimates = misjudged(song(4))
    estimates[1] = 0
    assert averaged([estimates])[1].abs().max() < 1e-6


def test_what_lies_farther_than_the_bank_reaches_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else memory would grow with the track."""
    monkeypatch.setattr(recurrence, "N_IN_BANK", 3)
    monkeypatch.setattr(recurrence, "N_AHEAD", 1)
    one, other = misjudged(song(14)), misjudged(song(14))
    other[..., : N_CHUNK - HOP] = noise(4, 2, N_CHUNK - HOP)
    ones, others = averaged([one]), averaged([other])
    assert not torch.equal(ones[..., N_CHUNK : 2 * N_CHUNK - HOP], others[..., N_CHUNK : 2 * N_CHUNK - HOP])
    assert below_db(others[..., 3 * N_CHUNK :], ones[..., 3 * N_CHUNK :]) > 100


def test_the_bank_does_not_grow() -> None:
    averaging = Recurrence()
    sizes = set()
    for _ in range(3 * recurrence.N_IN_BANK):
        for _ in averaging.push(torch.zeros(1, 1, N_CHUNK)):
            pass
        sizes.add(averaging.n_held)
    assert max(sizes) <= recurrence.N_IN_BANK


class Filters:
    """Four filters whose outputs add up to the mixture; each hears a few samples."""

    sources = SOURCES
    sample_rate = SAMPLE_RATE

    def __call__(self, mixture: Tensor) -> Tensor:
        smooth = [mixture]
        for width in (5, 9, 17):
            items = torch.nn.functional.pad(smooth[-1].reshape(-1, 1, mixture.shape[-1]), (width, width))
            smooth.append(torch.nn.functional.avg_pool1d(items, 2 * width + 1, 1).reshape(mixture.shape))
        bands = [a - b for a, b in pairwise(smooth)]
        return torch.stack([bands[0], smooth[3], bands[1], bands[2]], -3)


@pytest.mark.parametrize("wanted", [SOURCES, ("vocals", "bass")])
def test_segments_are_averaged_as_one_track(wanted: Sequence[str]) -> None:
    mixture = torch.stack((song(14).sum(0), song(14, seed=70).sum(0)))
    separator: Separator = only(Recurring(Filters()), wanted)
    assert separator.sources == tuple(wanted)
    grid = segment_grid(2.5)
    found = torch.cat([*stream(iter(mixture.split(100_000, -1)), separator, grid)], -1)
    assert below_db(found, separator(mixture)) > 90
    assert below_db(found, only(Filters(), wanted)(mixture)) < 40


def test_it_needs_all_four_stems() -> None:
    with pytest.raises(ConfigError, match="together"):
        Recurring(only(Filters(), ["vocals"]))


def test_segments_are_as_long_as_what_is_averaged_needs_them() -> None:
    from danna_sep.models import UNet, UNetConfig
    from danna_sep.separators import MaskSeparator

    unet = UNet(UNetConfig(growth=2, n_layers=(1, 1), bottleneck_width=8, n_heads=2, head_width=4)).eval()
    masks = MaskSeparator(unet, n_iterations=0)
    assert only_masks(Recurring(masks), segment_grid()) == only_masks(masks, segment_grid())
    assert default_segment_s(Recurring(masks)) == default_segment_s(masks)
    assert default_segment_s(Recurring(Filters())) == default_segment_s(Filters())


def test_where_it_is_quiet_louder_places_do_no_harm() -> None:
    """What sounds alike may be louder by far, as before a song fades out."""
    stems = song(10)
    estimates = misjudged(stems)
    n_loud = 6 * round(1.2 * SAMPLE_RATE)
    for each in (stems, estimates):
        each[..., n_loud:] *= 1e-3
    quiet = slice(n_loud + 2 * HOP, None)
    found = averaged([estimates])
    gain = mdx_sdr_db(stems[..., quiet], found[..., quiet]) - mdx_sdr_db(stems[..., quiet], estimates[..., quiet])
    assert gain.min() > 0, gain
