"""Makes the pool of training clips for the provisional weights, from free recordings and synthesis.

    python provisional/material.py --data DIR --out DIR --part all --minutes 30

The pool holds ``<source>/<kind>-<name>.npy``: int16, (2, samples), 44.1 kHz. Clips that exist are kept, so a
second run with more minutes enlarges the pool. Each clip has its own seed: the number of processes is no matter.

Needs scipy, soundfile, soxr, pyfluidsynth, pyworld (with setuptools below 81), and Debian's fluidsynth,
fluid-soundfont-gm, musescore-general-soundfont and (left out where absent) sonic-pi-samples. The pool of the
provisional weights: ``--part all --minutes 25 --seed 2``, then ``--part all --minutes 30 --seed 5``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import songs  # noqa: E402
import sound as snd  # noqa: E402

SOURCES = songs.SOURCES
CLIP_S = 30.0

# part -> source -> (kind, module, function); a function takes (data, rng, seconds) and gives (2, samples)
MAKERS = {
    "sampled": {
        "drums": ("sampled", "drumming", "clip"),
        "bass": ("sampled", "band", "bass"),
        "other": ("sampled", "band", "other"),
        "vocals": ("sampled", "phrases", "clip"),
    },
    "synth": {
        "drums": ("synth", "score", "drums"),
        "bass": ("synth", "score", "bass"),
        "other": ("synth", "score", "other"),
    },
    "singing": {"vocals": ("voice", "singing", "clip")},
}


def make(part: str, source: str, index: int, seed: int, data: Path, out: Path) -> float:
    kind, module, function = MAKERS[part][source]
    path = out / source / f"{kind}-{seed}_{index:04d}.npy"
    if path.exists():
        return CLIP_S
    rng = np.random.default_rng([seed, zlib.crc32(part.encode()), SOURCES.index(source), index])
    maker = getattr(importlib.import_module(module), function)
    for _ in range(4):
        clip = maker(data, rng, CLIP_S)
        clip_s = snd.write_clip(path, clip, rng)
        if clip_s:
            return clip_s
    return 0.0


def note_origin(out: Path) -> None:
    here = Path(__file__).with_name("origins.json")
    partial = out / f".MATERIAL.json.{os.getpid()}.partial"
    partial.write_text(json.dumps(json.loads(here.read_text()), indent=2) + "\n")
    partial.replace(out / "MATERIAL.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with cc0-songs and samples")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pool")
    parser.add_argument("--part", choices=["songs", *MAKERS, "all"], default="all")
    parser.add_argument("--source", choices=SOURCES, help="only this source")
    parser.add_argument("--minutes", type=float, default=10.0, help="audio per source and part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    note_origin(args.out)
    began_s = time.monotonic()
    n_clips = int(np.ceil(args.minutes * 60 / CLIP_S))
    totals_s: dict[str, float] = {}
    with ProcessPoolExecutor(args.processes) as pool:
        work = []
        if args.part in ("songs", "all"):
            for name, source in songs.jobs(args.data):
                if args.source in (None, source):
                    work.append((f"songs {source}", pool.submit(songs.write, args.data, args.out, name, source)))
        for index in range(n_clips):
            for part, makers in MAKERS.items():
                for source in makers:
                    if args.part in (part, "all") and args.source in (None, source):
                        job = (part, source, index, args.seed, args.data, args.out)
                        work.append((f"{part} {source}", pool.submit(make, *job)))
        n_failed = 0
        for label, future in work:
            try:
                totals_s[label] = totals_s.get(label, 0.0) + future.result()
            except Exception as problem:
                n_failed += 1
                print(f"{label}: {type(problem).__name__}: {problem}", file=sys.stderr, flush=True)
    for label, total_s in totals_s.items():
        print(f"{label:16s} {total_s / 60:6.1f} min")
    print(f"done in {(time.monotonic() - began_s) / 60:.1f} min, {n_failed} clips failed")
    sys.exit(1 if n_failed else 0)


if __name__ == "__main__":
    main()
