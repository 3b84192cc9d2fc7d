"""Seconds of audio trained on per second, for each recipe, and the share of the time spent waiting for excerpts.

    python bench/training.py --data SONGS [--recipe xumx ...] [--set optimiser.batch_size=1] [--seconds 60]

Runs the real training at the real size for a while, without saving or validating, and prints what the loop itself
measures; the first step, in which everything is set up, does not count. Recipes with large batches need much memory:
`--set optimiser.batch_size=1` makes them smaller, and is printed with the result.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from danna_sep.songs import find_songs
from danna_sep.training import events, loop, running
from danna_sep.training.recipe import with_settings
from danna_sep.training.recipes import RECIPES, find_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", action="append", choices=list(RECIPES))
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    songs = find_songs(arguments.data)
    print(f"{len(songs)} songs; {' '.join(arguments.settings)}")
    print("| recipe | batch | audio seconds per second | waiting for data | steps |\n|---|---|---|---|---|")
    for name in arguments.recipe or RECIPES:
        recipe = with_settings(find_recipe(name), ["data.excerpts_per_track=100000", *arguments.settings])
        options = running.Options(device=arguments.device, n_workers=arguments.workers, save_every_s=float("inf"))
        with tempfile.TemporaryDirectory() as folder:
            seen: list[tuple[float, events.Stepped]] = []
            for event in loop.train(recipe, songs, songs[:1], Path(folder), options=options):
                if isinstance(event, events.Stepped):
                    seen.append((time.monotonic(), event))
                    if len(seen) > 1 and seen[-1][0] - seen[0][0] > arguments.seconds:
                        break
        (began, _), (ended, last) = seen[0], seen[-1]
        each_s = recipe.data.excerpt_s * recipe.optimiser.batch_size * recipe.optimiser.accumulate
        rate = each_s * (len(seen) - 1) / (ended - began)
        batch = f"{recipe.optimiser.accumulate} x {recipe.optimiser.batch_size} x {recipe.data.excerpt_s:.1f} s"
        print(f"| {name} | {batch} | {rate:.2f} | {last.waited:.1%} | {len(seen) - 1} |", flush=True)


if __name__ == "__main__":
    main()
