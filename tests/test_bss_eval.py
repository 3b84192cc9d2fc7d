"""BSS Eval v4: museval's values, what follows from the definition, and what becomes of silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from danna_sep.evaluation import distortion_filters
from danna_sep.evaluation.bss_eval import bss_eval, bss_eval_of_blocks
from independent import museval_metrics

EXCERPT = Path(__file__).parent.parent / "examples" / "caesium-excerpt"
RATE = 44100
SOURCES = ("drums", "bass", "other", "vocals")
SDR, ISR, SIR, SAR = range(4)


@pytest.fixture(scope="module")
def song() -> torch.Tensor:
    """Four seconds of real stems as 16-bit samples, in which drums begin and others end: (source, channel, time)."""
    parts = []
    for source in SOURCES:
        with soundfile.SoundFile(EXCERPT / f"{source}.ogg") as file:
            file.seek(16 * RATE)
            parts.append(file.read(4 * RATE + 1234).T)
    return torch.from_numpy(np.rint(np.stack(parts) * 2**15) / 2**15).float()


def imperfect(song: torch.Tensor) -> torch.Tensor:
    """Estimates with a filter, interference and a distortion of their own."""
    filtered = 0.8 * song + 0.1 * song.roll(3, -1)
    return torch.tanh(4 * (filtered + 0.1 * song.sum(0))) / 4


def theirs(
    references: torch.Tensor, estimates: torch.Tensor, *, hop: int | None = None, n_taps: int = 512, window=RATE
):
    """(measure, source, window) as museval has it."""
    arrays = [np.asarray(each, np.float64).transpose(0, 2, 1) for each in (references, estimates)]
    metrics = museval_metrics()
    return np.array(metrics.bss_eval(*arrays, window=window, hop=hop or window, filters_len=n_taps)[:4])


def same(ours: torch.Tensor, expected: np.ndarray, tolerance_db: float = 0.01) -> None:
    """Above 100 dB there is rounding only, and both just have to say so."""
    assert ours.shape == expected.shape
    np.testing.assert_array_equal(torch.isnan(ours).numpy(), np.isnan(expected))
    np.testing.assert_allclose(ours.clamp(max=100).numpy(), expected.clip(max=100), atol=tolerance_db, rtol=0)


def insert_nothing(references: torch.Tensor, estimates: torch.Tensor) -> None:
    pass


def insert_silent_reference(references: torch.Tensor, estimates: torch.Tensor) -> None:
    references[0, :, RATE - 9 : 2 * RATE + 5] = 0


def insert_silent_estimate(references: torch.Tensor, estimates: torch.Tensor) -> None:
    estimates[1, :, : 2 * RATE] = 0


def insert_antiphase(references: torch.Tensor, estimates: torch.Tensor) -> None:
    references[0, 1, :RATE] = -references[0, 0, :RATE]


def insert_mono(references: torch.Tensor, estimates: torch.Tensor) -> None:
    references[0, 1] = references[0, 0]


def insert_all_mono(references: torch.Tensor, estimates: torch.Tensor) -> None:
    references[:, 1] = references[:, 0]
    estimates[:, 1] = estimates[:, 0]


def insert_one_source_twice(references: torch.Tensor, estimates: torch.Tensor) -> None:
    references[1] = references[0]


def insert_delay(references: torch.Tensor, estimates: torch.Tensor) -> None:
    estimates.copy_(0.1 * estimates.roll(200, -1))


def insert_long_delay(references: torch.Tensor, estimates: torch.Tensor) -> None:
    estimates.copy_(estimates.roll(1000, -1))


def insert_loud(references: torch.Tensor, estimates: torch.Tensor) -> None:
    references.mul_(100)
    estimates.mul_(100)


CASES = [value for name, value in globals().items() if name.startswith("insert_")]


@pytest.mark.parametrize("insert", CASES)
def test_two_real_sources_as_museval_has_them(song: torch.Tensor, insert) -> None:
    """Figures would not compare with anybody's else."""
    references, estimates = song[1:3].clone(), imperfect(song)[1:3]
    insert(references, estimates)
    n_taps = 512 if insert is insert_nothing else 200  # museval takes its time
    same(bss_eval(references, estimates, n_taps=n_taps), theirs(references, estimates, n_taps=n_taps))


def test_defaults_are_musevals(song: torch.Tensor) -> None:
    """Windows and hops of 1 s, filters of 512 taps."""
    references, estimates = song[1:2], imperfect(song)[1:2]
    same(bss_eval(references, estimates), theirs(references, estimates, window=RATE, hop=RATE, n_taps=512))


def test_four_real_sources_as_museval_has_them(song: torch.Tensor) -> None:
    references, estimates = song, imperfect(song)
    same(bss_eval(references, estimates, n_taps=100), theirs(references, estimates, n_taps=100))


@pytest.mark.slow
def test_four_real_sources_with_full_filters_as_museval_has_them(song: torch.Tensor) -> None:
    same(bss_eval(song, imperfect(song)), theirs(song, imperfect(song)))


@pytest.mark.parametrize(("window", "hop"), [(20000, 7001), (20000, 33000), (99999, 50000), (10**6, 10**6)])
def test_other_windows_as_museval_has_them(song: torch.Tensor, window: int, hop: int) -> None:
    references, estimates = song[1:3], imperfect(song)[1:3]
    expected = theirs(references, estimates, window=window, hop=hop, n_taps=40)
    same(bss_eval(references, estimates, window=window, hop=hop, n_taps=40), expected)


def test_windows_are_counted_as_museval_counts_them() -> None:
    """A window too many or too few would change every median."""
    framing = museval_metrics().Framing
    noise = torch.randn(1, 2, 400, generator=torch.Generator().manual_seed(0))
    for n_frames in (1, 2, 99, 100, 101, 149, 150, 151, 199, 200, 201, 400):
        for hop in (50, 100, 130):
            part = noise[..., :n_frames]
            values = bss_eval(part, part / 2, window=100, hop=hop, n_taps=4)
            assert values.shape == (4, 1, framing(100, hop, n_frames).nwin), (n_frames, hop)


def test_from_the_definition() -> None:
    """Against a least-squares solution in the time domain, with as few steps as possible and no code in common."""
    rng = np.random.default_rng(1)
    n_taps, window, n_frames = 5, 300, 1000
    references = rng.standard_normal((2, 2, n_frames))
    references[:, :, 1:] += 0.5 * references[:, :, :-1]
    estimates = references + 0.3 * references[::-1] + 0.2 * rng.standard_normal(references.shape)

    def delayed(channels: np.ndarray) -> np.ndarray:
        columns = []
        for channel in channels:
            for delay in range(n_taps):
                columns.append(np.concatenate([np.zeros(delay), channel, np.zeros(n_taps - 1 - delay)]))
        return np.stack(columns, 1)

    expected = np.zeros((4, 2, 3))
    for source in range(2):
        padded = np.pad(estimates[source], ((0, 0), (0, n_taps - 1))).T
        own = np.linalg.lstsq(delayed(references[source]), padded)[0]
        every = np.linalg.lstsq(delayed(references.reshape(4, -1)), padded)[0]
        for index in range(3):
            part = slice(index * window, (index + 1) * window)
            true = np.pad(references[source][:, part], ((0, 0), (0, n_taps - 1))).T
            estimate = np.pad(estimates[source][:, part], ((0, 0), (0, n_taps - 1))).T
            image = delayed(references[source][:, part]) @ own
            explained = delayed(references[:, :, part].reshape(4, -1)) @ every
            pairs = ((true, estimate - true), (true, image - true), (image, explained - image))
            for row, (signal, error) in enumerate((*pairs, (explained, estimate - explained))):
                expected[row, source, index] = 10 * np.log10(np.sum(signal**2) / np.sum(error**2))
    ours = bss_eval(torch.from_numpy(references), torch.from_numpy(estimates), window=window, n_taps=n_taps)
    same(ours, expected, 1e-6)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_filtered_source_has_no_interference_and_no_artifacts() -> None:
    """Only ISR and SDR may blame a system for a wrong equaliser."""
    references = noise(2, 2, 9000)
    references[:, :, -600:] = 0  # room for the filter's tail
    taps = (0.7, 0.0, -0.4, 0.1)
    estimates = sum(tap * references.roll(delay, -1) for delay, tap in enumerate(taps))
    values = bss_eval(references, estimates, n_taps=64)[..., 0]
    error = (estimates - references).square().sum((1, 2))
    by_hand = 10 * torch.log10(references.square().sum((1, 2)) / error)
    torch.testing.assert_close(values[SDR], by_hand, atol=1e-9, rtol=0)
    torch.testing.assert_close(values[ISR], by_hand, atol=1e-6, rtol=0)
    assert values[SIR].min() > 100
    assert values[SAR].min() > 100


def test_orthogonal_noise_is_an_artifact_and_nothing_else() -> None:
    """What sounds when no source has sounded for longer than the filters cannot be explained by any."""
    references, added = noise(2, 2, 9000), noise(2, 2, 9000, seed=1) / 10
    references[:, :, 4000:] = 0
    added[:, :, :5000] = 0
    values = bss_eval(references, references + added, n_taps=64)[..., 0]
    by_hand = 10 * torch.log10(references.square().sum((1, 2)) / added.square().sum((1, 2)))
    for measure in (SDR, SAR):
        torch.testing.assert_close(values[measure], by_hand, atol=1e-6, rtol=0)
    assert values[[ISR, SIR]].min() > 100


def test_another_source_is_interference_and_nothing_else() -> None:
    references = noise(2, 2, 9000)
    references[0, :, 4000:] = 0
    references[1, :, :5000] = 0
    references[1, :, 8900:] = 0
    estimates = references + 0.1 * references.flip(0)
    values = bss_eval(references, estimates, n_taps=64)[..., 0]
    energies = references.square().sum((1, 2))
    by_hand = 10 * torch.log10(energies / (0.01 * energies.flip(0)))
    for measure in (SDR, SIR):
        torch.testing.assert_close(values[measure], by_hand, atol=1e-6, rtol=0)
    assert values[[ISR, SAR]].min() > 100


def test_no_error_is_infinite_and_not_a_failure() -> None:
    references = noise(2, 2, 900).float()
    values = bss_eval(references, references, n_taps=8)
    assert torch.isposinf(values[SDR]).all()
    assert values.min() > 100


@pytest.mark.parametrize("n_frames", [1, 700, 44100, 60000])
def test_blocks_may_be_cut_anywhere(song: torch.Tensor, n_frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured must depend on the song, not on how it is read nor on the length of a chunk."""
    references, estimates = song[1:3, :, :100000], imperfect(song)[1:3, :, :100000]
    whole = bss_eval(references, estimates, n_taps=30, window=30000)
    if n_frames == 1:
        references, estimates, n_frames = references[..., :3000], estimates[..., :3000], 1
        whole = bss_eval(references, estimates, n_taps=30, window=30000)
    monkeypatch.setattr(distortion_filters, "_CHUNK_FFT", 2048)

    def blocks():
        return list(zip(references.split(n_frames, -1), estimates.split(n_frames, -1), strict=True))

    torch.testing.assert_close(
        bss_eval_of_blocks(blocks, range(2), n_taps=30, window=30000), whole, atol=1e-6, rtol=0, equal_nan=True
    )


def test_a_source_that_is_silent_all_along_is_left_out(song: torch.Tensor) -> None:
    """Museval raises; users ask for the others' values."""
    references, estimates = song[1:4].clone(), imperfect(song)[1:4]
    references[1] = 0
    with pytest.raises(ValueError, match="silent"):
        theirs(references, estimates, n_taps=20)
    ours = bss_eval(references, estimates, n_taps=20)
    assert torch.isnan(ours[:, 1]).all()
    same(ours[:, [0, 2]], theirs(references[[0, 2]], estimates[[0, 2]], n_taps=20))


def test_an_estimate_that_is_silent_all_along_has_no_value(song: torch.Tensor) -> None:
    """And the other sources' values must not depend on it."""
    references, estimates = song[1:4], imperfect(song)[1:4]
    audible = bss_eval(references, estimates, n_taps=20)
    estimates[2] = 0
    ours = bss_eval(references, estimates, n_taps=20)
    assert torch.isnan(ours[:, 2]).all()
    torch.testing.assert_close(ours[:, :2], audible[:, :2], equal_nan=True)
    assert torch.isnan(bss_eval(references * 0, estimates)).all()
    assert torch.isnan(bss_eval(references, estimates * 0)).all()


def test_fewer_estimates_than_sources(song: torch.Tensor) -> None:
    """All sources explain an estimate, whether they were separated or not; the order of estimates is the caller's."""
    references, estimates = song, imperfect(song)
    everything = bss_eval(references, estimates, n_taps=20)
    some = bss_eval(references, estimates[[3, 1]], targets=[3, 1], n_taps=20)
    torch.testing.assert_close(some, everything[:, [3, 1]], equal_nan=True)


@pytest.mark.parametrize("gain", [1e-3, 100])
def test_loudness_does_not_matter(song: torch.Tensor, gain: float) -> None:
    references, estimates = song[1:3].double(), imperfect(song)[1:3].double()
    torch.testing.assert_close(
        bss_eval(gain * references, gain * estimates, n_taps=20),
        bss_eval(references, estimates, n_taps=20),
        atol=1e-3,
        rtol=0,
        equal_nan=True,
    )


def test_singular_systems_are_solved() -> None:
    """Where no Cholesky factor exists, the projection must still be that of least squares."""
    columns = noise(50, 8)
    columns[:, 4:] = columns[:, :4]  # rank 4
    right = columns.T @ noise(50, 3, seed=1)
    matrix = columns.T @ columns
    for spoiled in (matrix, matrix - 1e-9 * torch.eye(8, dtype=torch.float64)):
        solution = distortion_filters._solve(spoiled.clone(), right)
        torch.testing.assert_close(spoiled @ solution, right, atol=1e-6, rtol=0)
    zeros = torch.zeros(3, 3, dtype=torch.float64)
    assert distortion_filters._solve(zeros, torch.zeros(3, 1, dtype=torch.float64)).isfinite().all()


def test_inputs_are_left_untouched(song: torch.Tensor) -> None:
    references, estimates = song[:2].clone(), imperfect(song)[:2]
    before = references.clone(), estimates.clone()
    bss_eval(references, estimates, n_taps=10)
    assert torch.equal(references, before[0])
    assert torch.equal(estimates, before[1])
