"""Scale the norms of a trained U-Net by one factor each, to what songs that it never heard want.

    python bundle/calibrate.py wide-unet.safetensors --songs left-out --songs new-band --to calibrated.safetensors

A network that heard a hundred thousand excerpts of few songs knows these better than others: its deepest stages say
more of them than is true of songs in general. How far each layer is to be trusted is a few dozen factors, too few to
learn songs by heart, and a few minutes of songs that it was not trained on tell them. What is minimised is the mean
over stems of the error in dB; where it is 30 dB below the mixture it is good enough, also of a silent stem. Each folder
counts as much as the others, and where all stems are known every other excerpt has them at their usual levels.
`--begin decoder.1.norm=0.5` begins there instead of at one. Excerpts lie evenly in each folder's songs: nothing is
drawn at random, so that the same songs give the same factors. Factors are held back from going far. Of few songs they
still learn what only these want: `--keep decoder.3` applies those found for the norms whose names begin so alone.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from judge import levelled
from torch import Tensor, nn
from torch.func import functional_call

from danna_sep import weights
from danna_sep.allocator import keep_freed_memory
from danna_sep.convert import check_entries
from danna_sep.errors import DannaSepError, SongsError
from danna_sep.models import UNet, build
from danna_sep.signal.stft import magnitude_of, stft
from danna_sep.songs import find_songs
from danna_sep.types import SAMPLE_RATE, SOURCES

GOOD_ENOUGH = 1e-3
"""Of the mixture's energy."""
SILENT = 1e-6
HELD_BACK = 0.5
"""Error, dB, as which a sum of one counts: of the squares of how far factors, as logarithms, are from the beginning."""


class Excerpt(NamedTuple):
    """Some seconds of a song.

    Attributes:
        mixture: Axes channel, time.
        stems: Axes source, channel, time.
        known: Places of the sources whose stems are.
    """

    mixture: Tensor
    stems: Tensor
    known: list[int]


def norms_of(model: nn.Module) -> list[str]:
    """Names of all that is scaled."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]


def scaled(entries: Mapping[str, Tensor], factors: Mapping[str, Tensor | float]) -> dict[str, Tensor]:
    """Weights of which those of some norms are multiplied.

    Raises:
        KeyError: No such norm.
    """
    new = {f"{name}.{part}": factor for name, factor in factors.items() for part in ("weight", "bias")}
    return {**entries, **{name: entries[name] * factor for name, factor in new.items()}}


def error_db(model: UNet, entries: Mapping[str, Tensor], excerpt: Excerpt) -> Tensor:
    """Mean over the known stems of their error, dB of the mixture's energy, of a network with these weights."""
    transform = model.config.n_fft, model.config.hop_length
    mixture = stft(excerpt.mixture, *transform)
    references = stft(excerpt.stems[excerpt.known], *transform)
    masks = functional_call(model, dict(entries), (magnitude_of(mixture)[None],))[0, excerpt.known]
    errors = torch.view_as_real(masks * mixture - references).square().flatten(1).sum(1)
    energy = torch.view_as_real(mixture).square().sum()
    return 10 * torch.log10(errors / (energy + SILENT) + GOOD_ENOUGH).mean()


def excerpts_of(folder: Path, n_excerpts: int, length_s: float) -> list[Excerpt]:
    """So many excerpts, evenly out of all songs of a folder one behind the other.

    Raises:
        SongsError: No songs there, or one that is empty or of which no stem is known.
        AudioError: A file that cannot be read.
    """
    songs = find_songs(folder)
    for song in songs:
        if not song.annotated or not song.n_frames:
            raise SongsError(f"{folder}: {song.name}: {'is empty' if song.annotated else 'no stem of it is known'}")
    n_frames = round(SAMPLE_RATE * length_s)
    ends = np.cumsum([song.n_frames for song in songs])
    found = []
    for number in range(n_excerpts):
        place = int(ends[-1] * (number + 0.5) / n_excerpts)
        index = int(np.searchsorted(ends, place, side="right"))
        song = songs[index]
        start = min(place - int(ends[index]) + song.n_frames, max(0, song.n_frames - n_frames))
        read = song.read(start, min(n_frames, song.n_frames))
        mixture, stems = read.mixture, read.stems
        if number % 2 and read.annotated == SOURCES:
            usual = levelled(dict(zip(SOURCES, stems, strict=True)), 0.0, np.random.default_rng(0))
            stems = np.stack([usual[source] for source in SOURCES])
            mixture = stems.sum(0)
        known = [SOURCES.index(source) for source in read.annotated]
        found.append(Excerpt(torch.from_numpy(mixture), torch.from_numpy(stems), known))
    return found


def calibrated(
    model: UNet,
    entries: Mapping[str, Tensor],
    kinds: Sequence[Sequence[Excerpt]],
    begin: Mapping[str, float],
    n_steps: int,
    rate: float,
) -> dict[str, float]:
    """A factor for each norm.

    Args:
        model: Whose configuration says what it hears.
        entries: Its weights.
        kinds: Excerpts of several kinds of songs, which count alike.
        begin: Factors to begin at, where not at one.
        n_steps: Of Adam, over all excerpts each.
        rate: How far a step goes at most, about, in natural logarithms of factors; falls to nothing.
    """
    names = norms_of(model)
    start = torch.tensor([begin.get(name, 1.0) for name in names]).log()
    logs = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([logs], rate, betas=(0.6, 0.9))
    for step in range(n_steps):
        began = time.monotonic()
        optimiser.param_groups[0]["lr"] = rate * (1 - step / n_steps)
        told = []
        for kind in kinds:
            total = 0.0
            for excerpt in kind:
                error = error_db(model, scaled(entries, dict(zip(names, logs.exp(), strict=True))), excerpt)
                (error / len(kind) / len(kinds)).backward()
                total += float(error.detach())
            told.append(total / len(kind))
        (HELD_BACK * (logs - start).square().sum()).backward()
        optimiser.step()
        optimiser.zero_grad()
        print(f"{step}: {' '.join(f'{error:.2f}' for error in told)} dB ({time.monotonic() - began:.0f} s)", flush=True)
    return dict(zip(names, logs.detach().exp().tolist(), strict=True))


def beginning(given: str) -> tuple[str, float]:
    """A norm's name and its factor."""
    name, _, text = given.partition("=")
    factor = float(text)
    if not 0 < factor < math.inf:
        raise ValueError
    return name, factor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE", help="weights of a U-Net")
    parser.add_argument("--songs", type=Path, action="append", required=True, help="not trained on; may be repeated")
    parser.add_argument("--to", type=Path, required=True, help="weights in float16, for ship.py")
    parser.add_argument("--begin", type=beginning, action="append", default=[], metavar="NORM=FACTOR")
    parser.add_argument("--excerpts", type=int, default=10, help="of each folder")
    parser.add_argument("--length", type=float, default=15.0, help="of an excerpt, s")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.03)
    parser.add_argument("--keep", default="", metavar="PREFIX", help="leave norms of other names as they were")
    arguments = parser.parse_args()
    if arguments.excerpts < 1 or arguments.steps < 1 or not arguments.length >= 1 or not 0 < arguments.rate < 1:
        parser.error("there must be an excerpt and a step at least, of a second or more, and a rate from 0 to 1")
    if not arguments.to.parent.is_dir():
        parser.error(f"{arguments.to}: no such folder to write to")
    keep_freed_memory()
    begin = dict(arguments.begin)
    try:
        file = weights.read(arguments.file)
        if file.model != "unet":
            parser.error(f"{arguments.file}: weights of {file.model}, not of a U-Net")
        model = cast("UNet", build("unet", file.config)).eval().requires_grad_(False)
        check_entries(model, file.entries, str(arguments.file))
        if unknown := sorted(begin.keys() - set(norms_of(model))):
            parser.error(f"{arguments.file}: has no norm {unknown[0]}; there are {', '.join(norms_of(model))}")
        if not any(name.startswith(arguments.keep) for name in norms_of(model)):
            parser.error(f"{arguments.file}: has no norm {arguments.keep}...; there are {', '.join(norms_of(model))}")
        kinds = [excerpts_of(folder, arguments.excerpts, arguments.length) for folder in arguments.songs]
        found = calibrated(model, file.entries, kinds, begin, arguments.steps, arguments.rate)
        factors = {name: factor for name, factor in found.items() if name.startswith(arguments.keep)}
        for name, factor in factors.items():
            print(f"{name} {factor:.3f}")
        weights.write(
            arguments.to,
            model=file.model,
            config=file.config,
            entries=scaled(file.entries, factors),
            metadata={name: note for name, note in file.metadata.items() if name != "sdr"},
            dtype=torch.float16,
        )
    except DannaSepError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
