"""Which songs and which singing a training gains from: trainings alike but for what they hear, and a table of SDR.

    python bench/ablation.py --recordings DIR --songs DIR --band DIR --valid DIR --out work/ablation [--steps 500]

`--songs` are real ones; `--band` are songs of `danna-sep synthesise`, of which drums, bass and other are used. Their
vocals are made here, for each kind of singing by itself, so that one can be left out and the others stay as they are:
words put on tunes or moved into a key by WORLD, recordings as they are, speech in rhythm, choirs, a speech synthesiser
on tunes and in rhythm. Real songs are drawn from half as often as the synthetic ones, kinds of singing equally often.
Stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import soundfile

from danna_sep.songs import find_songs
from danna_sep.training.recipes import find_recipe
from danna_sep.training.synthesis import voices
from danna_sep.training.synthesis.phrases import BANKS, Way
from danna_sep.training.synthesis.placing import RATE_HZ
from danna_sep.training.synthesis.plan import random_plan
from danna_sep.training.synthesis.recordings import Recordings
from danna_sep.types import SOURCES

KINDS: dict[str, tuple[Way, ...]] = {
    "on tunes": ("held", "words", "transposed"),
    "as recorded": ("as they are",),
    "spoken": ("spoken",),
    "choir": ("choir",),
    "speech synthesiser": ("words", "spoken"),
}
SPEAKERS = {name for name, bank in BANKS.items() if bank.pattern.startswith("flite/")}
LENGTH_S = 60.0
SEED = 31

Manifests = list[tuple[Path, float]]
"""Folders of songs, and how often they are drawn from."""


def sing(recordings: Path, kind: str, out: Path, n_songs: int) -> None:
    """Vocal stems of one kind, as songs of which nothing else is known; those that are there stay."""
    studio = Recordings(recordings)
    banks = SPEAKERS if kind == "speech synthesiser" else set(BANKS) - SPEAKERS
    for index in range(n_songs):
        path = out / f"{kind.replace(' ', '-')}-{index:03d}" / "vocals.flac"
        if path.exists():
            continue
        for attempt in range(20):
            rng = np.random.default_rng([SEED, zlib.crc32(kind.encode()), index, attempt])
            way = KINDS[kind][index % len(KINDS[kind])]
            n_samples = round(LENGTH_S * RATE_HZ)
            sound = voices.vocal(studio, random_plan(rng, LENGTH_S), rng, n_samples, way=way, among=banks)
            if np.square(sound).mean() > 1e-5:
                break
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(".vocals.flac")
        soundfile.write(partial, sound.T, RATE_HZ, format="FLAC", subtype="PCM_16")
        partial.replace(path)


def without_vocals(band: Path, out: Path) -> Path:
    """A manifest of the band's songs of which the vocals are left out."""
    songs = [
        {"name": song.name, "stems": {s: str(song.files[s][0].path.resolve()) for s in SOURCES if s != "vocals"}}
        for song in find_songs(band)
    ]
    out.mkdir(parents=True, exist_ok=True)
    path = out / "songs.json"
    path.write_text(json.dumps({"format": "danna-sep songs", "version": 1, "songs": songs}))
    return path


def variants(real: Path, band: Path, singing: dict[str, Path]) -> dict[str, Manifests]:
    """What each training hears."""

    def sung(kinds: list[str]) -> Manifests:
        return [(singing[kind], 2.0 / len(kinds)) for kind in kinds]

    every = [kind for kind in KINDS if kind != "speech synthesiser"]
    return {
        "real and synthetic": [(real, 1.0), (band, 2.0), *sung(every)],
        **{f"without {kind}": [(real, 1.0), (band, 2.0), *sung([k for k in every if k != kind])] for kind in every},
        "no synthetic singing": [(real, 1.0), (band, 2.0)],
        "synthetic alone": [(band, 2.0), *sung(every)],
        "real alone": [(real, 1.0)],
        "with a speech synthesiser": [(real, 1.0), (band, 2.0), *sung(list(KINDS))],
    }


def train(recipe: str, songs: Manifests, valid: Path, out: Path, n_steps: int, settings: list[str]) -> list[float]:
    """SDR in dB of each source after so many steps."""
    n_songs = sum(len(find_songs(folder)) for folder, _ in songs)
    n_items = n_steps * find_recipe(recipe).optimiser.batch_size
    command = ["train", recipe, "--valid", str(valid), "--out", str(out), "--json", "--workers", "1"]
    for folder, share in songs:
        command += ["--data", str(folder), "--share", str(share)]
    for setting in ("epochs=1", f"data.excerpts_per_track={-(-n_items // n_songs)}", *settings):
        command += ["--set", setting]
    if not (out / "last.safetensors").exists():
        subprocess.run([sys.executable, "-m", "danna_sep", *command], check=True, stdout=subprocess.DEVNULL)
    events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    scores: list[float] = next(e for e in events if e["event"] == "validated")["scores"]["per_source_db"]
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("recordings", "songs", "band", "valid", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--recipe", default="small-xumx")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--clips", type=int, default=24, help="minutes of each kind of singing")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    out = arguments.out
    singing = {kind: out / "singing" / kind.replace(" ", "-") for kind in KINDS}
    for kind, folder in singing.items():
        sing(arguments.recordings, kind, folder, arguments.clips)
    band = without_vocals(arguments.band, out / "band")
    print(f"| heard | {' | '.join(SOURCES)} | mean |\n|---|---|---|---|---|---|", flush=True)
    for name, songs in variants(arguments.songs, band, singing).items():
        run = out / name.replace(" ", "-")
        scores = train(arguments.recipe, songs, arguments.valid, run, arguments.steps, arguments.set)
        print(f"| {name} | {' | '.join(f'{s:.2f}' for s in [*scores, float(np.mean(scores))])} |", flush=True)


if __name__ == "__main__":
    main()
