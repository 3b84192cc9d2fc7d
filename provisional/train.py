"""Train one small model of the provisional bundle on a pool of stems, mixed at random.

    python provisional/train.py unet --pool work/pool --out work/unet.safetensors --minutes 60

A plain program: one process, Adam, a learning rate that falls with the time spent, an average of the weights.
`material.py` makes the pool and may go on adding to it. The result is float16 safetensors that `danna_sep.weights`
reads.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import queue
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danna_sep import weights
from danna_sep.allocator import keep_freed_memory
from danna_sep.evaluation.metrics import mdx_sdr_db
from danna_sep.models import XUMX, Demucs, DemucsConfig, UNet, UNetConfig, XUMXConfig
from danna_sep.signal.stft import istft, stft
from danna_sep.types import SAMPLE_RATE, SOURCES

CONFIGS = {
    "xumx": XUMXConfig(hidden=192, n_lstm_layers=2, dropout=0.2),
    "unet": UNetConfig(input_power=0.3, growth=8, n_layers=(1, 2, 2, 2, 2, 2), bottleneck_width=128, dropout=0.1),
    "demucs": DemucsConfig(width=16, n_layers=5),
}
BATCH = {"xumx": 4, "unet": 2, "demucs": 2}
EXCERPT_S = 127 * 1024 / SAMPLE_RATE
"""128 frames: short and few, because what is scarce here is steps, not material for a step."""
LEARNING_RATE = {"xumx": 1e-3, "unet": 1.5e-3, "demucs": 4e-4}
KIND_WEIGHTS = {"song": 2.0}
"""How often a kind of clip is drawn, per second of it, against 1 for the rest."""


class Pool:
    """Clips of one source, drawn in proportion to their length and their kind's weight."""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder, self.source = folder / source, source
        self.rescan()

    def rescan(self) -> None:
        paths = sorted(self.folder.glob("*.npy"))
        self.clips = [np.load(path, mmap_mode="r") for path in paths]
        self.kinds = [path.name.rsplit("-", 1)[0] for path in paths]
        odds = np.array(
            [
                clip.shape[1] * KIND_WEIGHTS.get("song" if kind.startswith("song") else kind, 1.0)
                for clip, kind in zip(self.clips, self.kinds, strict=True)
            ],
            float,
        )
        if self.source == "drums":  # low end of other sources is in them
            odds *= [not kind.startswith("song-lowend") for kind in self.kinds]
        self.odds = odds / odds.sum()

    def draw(self, rng: np.random.Generator, n_samples: int) -> np.ndarray:
        """An excerpt, float32 (channel, time); shorter clips stand between zeros."""
        choice = rng.choice(len(self.clips), p=self.odds)
        clip = self.clips[choice]
        # Voices are the scarcest: by a third slower or faster they are other people's.
        most = 0.27 if self.source == "vocals" else 0.17
        speed = float(np.exp(rng.uniform(-most, most))) if rng.random() < 0.6 else 1.0
        n_read = min(clip.shape[1], math.ceil(n_samples * speed) + 2)
        start = rng.integers(0, clip.shape[1] - n_read + 1)
        audio = np.asarray(clip[:, start : start + n_read], np.float32) / 32768
        if speed != 1.0:
            places = np.arange(0, n_read - 1.001, speed)
            before = places.astype(np.int64)
            after = (places - before).astype(np.float32)
            audio = audio[:, before] * (1 - after) + audio[:, before + 1] * after
        audio = audio[:, :n_samples]
        if audio.shape[1] < n_samples:
            free = n_samples - audio.shape[1]
            front = int(rng.integers(0, free + 1))
            audio = np.pad(audio, ((0, 0), (front, free - front)))
        if self.source == "other" and self.kinds[choice].startswith("song-lowend"):
            audio = _shape(audio, lambda frequency_hz: (frequency_hz > 150).float())
        if rng.random() < 0.5:
            audio = np.ascontiguousarray(audio[::-1])
        if rng.random() < 0.3:
            audio = _tilt(audio, rng)
        if rng.random() < 0.5:
            audio = -audio
        return np.ascontiguousarray(audio, np.float32)


def _shape(audio: np.ndarray, gain: Callable[[Tensor], Tensor]) -> np.ndarray:
    """`audio` through a filter given by its gain at frequencies in Hz."""
    n_samples = audio.shape[1]
    spectrum = torch.fft.rfft(torch.from_numpy(np.ascontiguousarray(audio)))
    return torch.fft.irfft(spectrum * gain(torch.fft.rfftfreq(n_samples, 1 / SAMPLE_RATE)), n_samples).numpy()


def _tilt(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random smooth equaliser: gains at seven points of the frequency axis, +-6 dB."""
    points = np.log([40, 120, 350, 1000, 3000, 8000, 16000])
    grid = np.linspace(np.log(20), np.log(23000), 257)
    gains = torch.from_numpy((10 ** (np.interp(grid, points, rng.uniform(-6, 6, len(points))) / 20)).astype("f4"))

    def gain(frequency_hz: Tensor) -> Tensor:
        place = (frequency_hz.clamp(min=20).log() - grid[0]) / (grid[1] - grid[0])
        return gains[place.round().long().clamp(0, 256)]

    return _shape(audio, gain)


def draw_item(pools: dict[str, Pool], rng: np.random.Generator, n_samples: int) -> np.ndarray:
    """Stems of a random mix, float32 (source, channel, time), levels and peak as in a finished song."""
    stems = np.zeros((len(SOURCES), 2, n_samples), np.float32)
    for index, source in enumerate(SOURCES):
        if rng.random() < 0.1:
            continue
        excerpt = pools[source].draw(rng, n_samples)
        if source == "vocals" and rng.random() < 0.15:
            excerpt += 10 ** (rng.uniform(-9, -2) / 20) * pools[source].draw(rng, n_samples)
        if source == "other" and rng.random() < 0.5:
            excerpt += 10 ** (rng.uniform(-9, 3) / 20) * pools[source].draw(rng, n_samples)
        level = np.sqrt(np.mean(excerpt**2)) + 1e-4
        target_db = {"drums": -19, "bass": -20, "other": -19, "vocals": -19}[source] + rng.normal(0, 4)
        stems[index] = excerpt * (10 ** (target_db / 20) / level)
    peak = np.abs(stems.sum(0)).max()
    if peak > 0:
        stems *= min(rng.uniform(0.35, 1.0) / peak, 8.0)
    return stems


class Feeder:
    """Batches made in a thread beside the training, rereading the pool as it grows."""

    def __init__(self, folder: Path, batch: int, n_samples: int, seed: int) -> None:
        self.pools = {source: Pool(folder, source) for source in SOURCES}
        self.batch, self.n_samples = batch, n_samples
        self.rng = np.random.default_rng(seed)
        self.queue: queue.Queue[Tensor] = queue.Queue(4)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        scanned = time.monotonic()
        while True:
            if time.monotonic() - scanned > 300:
                for pool in self.pools.values():
                    pool.rescan()
                scanned = time.monotonic()
            items = [draw_item(self.pools, self.rng, self.n_samples) for _ in range(self.batch)]
            self.queue.put(torch.from_numpy(np.stack(items)))

    def next(self) -> Tensor:
        return self.queue.get()


def loss_of(model: nn.Module, stems: Tensor, bf16: bool) -> Tensor:
    """Mean absolute error of the stems (waveform model), or weighted squared error of their spectra (mask models)."""
    mixture = stems.sum(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        if isinstance(model, Demucs):
            return F.l1_loss(model(mixture).float(), stems)
        references = stft(stems)
        spectrum = references.sum(1)
        masks = model(spectrum.abs()).float()
    # Quadratic in the mask: while the model knows little, the mean absolute error is least for masks of zero, and
    # training stays there. Divided by the mixture's magnitude, so that loud bins are not all that counts.
    error = masks * spectrum[:, None] - references
    return (error.real.square() + error.imag.square()).div(spectrum.abs()[:, None] + 0.1).mean()


def fit_statistics(model: XUMX, feeder: Feeder) -> None:
    """Input mean and scale of X-UMX from a few batches, as Open-Unmix does."""
    magnitude = torch.cat([stft(feeder.next().sum(1)).abs() for _ in range(4)])[..., : model.config.n_bins, :]
    mean = magnitude.mean((0, 1, 3))
    deviation = magnitude.std((0, 1, 3))
    model.input_mean.data[:] = -mean
    model.input_scale.data[:] = 1 / deviation.clamp(min=1e-4 * deviation.max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=CONFIGS)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="go on from an earlier run's .state, or from weights")
    parser.add_argument("--valid", type=Path, help="folder of a song that the pool leaves out, to measure on")
    parser.add_argument("--lr-factor", type=float, default=1.0)
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    name = arguments.model
    bf16 = name != "xumx"
    config = CONFIGS[name]
    model: nn.Module = {"xumx": XUMX, "unet": UNet, "demucs": Demucs}[name](config)
    n_samples = round(EXCERPT_S * SAMPLE_RATE)
    feeder = Feeder(arguments.pool, BATCH[name], n_samples, arguments.seed)
    if isinstance(model, XUMX) and not arguments.init:
        fit_statistics(model, feeder)
    optimiser = torch.optim.Adam(model.parameters(), LEARNING_RATE[name])
    n_steps = 0
    if arguments.init and arguments.init.suffix == ".safetensors":
        model.load_state_dict(weights.read(arguments.init).entries)
    elif arguments.init:
        state = torch.load(arguments.init, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        n_steps = state["n_steps"]
    average = copy.deepcopy(model).requires_grad_(False).eval()

    left_out = left_out_song(arguments.valid) if arguments.valid else None
    budget_s = arguments.minutes * 60
    start = saved = time.monotonic()
    recent: defaultdict[str, float] = defaultdict(float)
    n_here = 0
    while (spent := time.monotonic() - start) < budget_s:
        progress = spent / budget_s
        warm = min(1.0, (n_here + 1) / 50)
        for group in optimiser.param_groups:
            group["lr"] = (
                arguments.lr_factor
                * LEARNING_RATE[name]
                * warm
                * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * max(0.0, progress - 0.3) / 0.7)))
            )
        model.train()
        loss = loss_of(model, feeder.next(), bf16)
        if not torch.isfinite(loss):
            raise SystemExit(f"loss is not finite at step {n_steps}")
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        n_steps += 1
        n_here += 1
        decay = min(0.998, n_here / (n_here + 10))
        with torch.no_grad():
            for mean, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(now, 1 - decay)
        recent["loss"] += loss.item()
        recent["n"] += 1
        if n_steps % 100 == 0:
            print(f"{name} step {n_steps} {spent / 60:.1f} min loss {recent['loss'] / recent['n']:.5f}", flush=True)
            recent.clear()
        if time.monotonic() - saved > 240:
            save(arguments, name, config, average, model, optimiser, n_steps)
            if left_out:
                print(f"{name} step {n_steps} SDR {validate(average, *left_out)}", flush=True)
            saved = time.monotonic()
    save(arguments, name, config, average, model, optimiser, n_steps)


@torch.no_grad()
def validate(model: nn.Module, mixture: Tensor, stems: Tensor) -> str:
    """SDR of each source on a song that training leaves out, without the Wiener filter, in pieces of 12 s."""
    estimates = []
    for piece in mixture.split(2**19, -1):
        if isinstance(model, Demucs):
            estimates.append(model(piece[None])[0])
            continue
        spectrum = stft(F.pad(piece, (0, 4096)))
        masked = model(spectrum.abs()[None])[0] * spectrum
        estimates.append(istft(masked, piece.shape[-1]))
    sdr_db = mdx_sdr_db(stems, torch.cat(estimates, -1))
    return " ".join(f"{value:6.2f}" for value in [*sdr_db.tolist(), sdr_db.mean()])


def left_out_song(folder: Path, excerpts_s: Sequence[tuple[int, int]] = ((20, 40), (190, 40))) -> tuple[Tensor, Tensor]:
    """Mixture and stems of excerpts of a song."""
    stems = [
        soundfile.read(next(folder.glob(f"{source}.*")), dtype="float32", always_2d=True)[0].T for source in SOURCES
    ]
    length = min(stem.shape[1] for stem in stems)
    whole = torch.from_numpy(np.stack([stem[:, :length] for stem in stems]))
    cuts = [whole[..., start * SAMPLE_RATE : (start + n) * SAMPLE_RATE] for start, n in excerpts_s]
    chosen = torch.cat(cuts, -1)
    return chosen.sum(0), chosen


def save(
    arguments: argparse.Namespace,
    name: str,
    config: XUMXConfig | UNetConfig | DemucsConfig,
    average: nn.Module,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    n_steps: int,
) -> None:
    """Weights to ship at `--out`, the training's state beside it."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    excerpt_s = BATCH[name] * EXCERPT_S
    weights.write(
        arguments.out,
        model=name,
        config=json.loads(json.dumps(asdict(config))),
        entries=average.state_dict(),
        metadata={
            "provisional": "true",
            "licence": "MIT",
            "made_by": f"provisional/train.py at {commit.stdout.strip()}, seed {arguments.seed}",
            "training": f"{n_steps} steps of {excerpt_s:.1f} s, on two CPU cores",
        },
        dtype=torch.float16,
    )
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "n_steps": n_steps}
    torch.save(state, arguments.out.with_suffix(".state"))


if __name__ == "__main__":
    main()
