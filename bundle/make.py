"""Make the small weights that ship from nothing: songs of the synthetic band, three trainings, the blend.

    python bundle/make.py --recordings DIR --songs DIR --valid DIR --out work/bundle [--voices DIR] [--steps 20000]

Recordings as `danna-sep synthesise` reads them; songs and those to validate on are folders of real songs with stems,
voices are for `judge.py`, whose songs the blend is fitted on. Every step is printed before it runs; all but that one
are `danna-sep` commands. Stopped or killed, the same command goes on where it was.
At the end the folder holds `blend.json`, a preset file, and weights beside it: `danna-sep SONG --preset blend.json`.
`--set` goes to all trainings, such as `--set precision=f32`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from danna_sep.songs import find_songs
from danna_sep.training.recipes import find_recipe
from danna_sep.types import SOURCES

MODELS = ("xumx", "unet", "demucs")
SYNTHETIC_SHARE = 2.0
"""How often a stem is the band's, against 1 for real songs."""
SEED = 1
HELD_OUT_SEED = 999
"""Of the band's songs that the blend is fitted on."""


def run(*arguments: object) -> None:
    """A `danna-sep` command, in a process of its own."""
    _run(["danna-sep"], ["-m", "danna_sep"], arguments)


def run_program(name: str, *arguments: object) -> None:
    """A program beside this one, likewise."""
    path = str(Path(__file__).with_name(name))
    _run(["python", path], [path], arguments)


def _run(shown: list[str], program: list[str], arguments: tuple[object, ...]) -> None:
    told = [str(argument) for argument in arguments]
    print(f"$ {shlex.join([*shown, *told])}", flush=True)
    done = subprocess.run([sys.executable, *program, *told], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def epochs_of(model: str, n_songs: int, n_steps: int, n_epochs: int) -> list[str]:
    """Settings for so many steps in all, in epochs of equal length."""
    n_items = n_steps * find_recipe(f"small-{model}").optimiser.batch_size
    return [f"epochs={n_epochs}", f"data.excerpts_per_track={max(1, round(n_items / n_epochs / n_songs))}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--songs", type=Path, required=True)
    parser.add_argument("--valid", type=Path, required=True)
    parser.add_argument("--voices", type=Path, action="append", default=[], help="recordings of a voice not trained on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--band", type=int, default=400, help="songs of the synthetic band")
    parser.add_argument("--held-out", type=int, default=10, help="songs of it that the blend is fitted on")
    parser.add_argument("--longest", type=float, default=150.0, help="seconds of the band's longest song")
    parser.add_argument("--steps", type=int, default=20000, help="of each training")
    parser.add_argument("--epochs", type=int, default=20, help="as many measurements on the way")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", action="append", choices=MODELS, help="only this one; default: all")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    out, models = arguments.out, arguments.model or list(MODELS)
    length = ["--shortest", min(60.0, arguments.longest), "--longest", arguments.longest]
    band, held = out / "band", out / "held-out"
    for folder, seed, n_songs in ((band, SEED, arguments.band), (held, HELD_OUT_SEED, arguments.held_out)):
        many = ["--songs", n_songs, "--seed", seed, "--processes", arguments.processes]
        run("synthesise", "--recordings", arguments.recordings, "--out", folder, *many, *length)

    n_songs = len(find_songs(arguments.songs)) + arguments.band
    for model in models:
        settings = [*epochs_of(model, n_songs, arguments.steps, arguments.epochs), *arguments.set]
        data = ["--data", arguments.songs, "--data", band, "--share", 1, "--share", SYNTHETIC_SHARE]
        where = ["--valid", arguments.valid, "--out", out / model, "--device", arguments.device, "--seed", SEED]
        run("train", f"small-{model}", *data, *where, *(part for each in settings for part in ("--set", each)))

    judge = [part for voices in arguments.voices for part in ("--voices", voices)]
    run_program("judge.py", "--band", held, "--song", arguments.valid, "--out", out / "judge", *judge)
    presets = []
    for model in models:
        path = out / f"{model}.json"
        row = dict.fromkeys(SOURCES, 1)
        preset = {
            "format": "danna-sep-preset/1",
            "summary": f"the small {model}",
            "separators": {model: {"file": f"{model}/best.safetensors"}},
            "blend": {model: row},
        }
        path.write_text(json.dumps(preset))
        presets.append(path)
    run(
        "fit-blend",
        *presets,
        "--data",
        out / "judge",
        "--constraint",
        "convex",
        "--out",
        out / "blend.json",
        "--overwrite",
    )


if __name__ == "__main__":
    main()
