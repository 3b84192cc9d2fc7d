"""Train the small models side by side on a machine with a GPU, for so many seconds, on songs that its memory holds.

    python bundle/resident.py --songs packed --out trained --seconds 600

`packed` is what `pack.py` wrote; archives that arrive later are taken in as they come. All models hear the same
batches, each in its own queue of the GPU, and their learning rates fall with the time that is left: to nothing when it
is up, however fast the machine. A file `deadline` beside the archives (seconds since 1970) overrules `--seconds`.
Weights are averages, in float16, and written twice: at two thirds of the time and at the end; under the model's name,
or that of the file that it went on from. On a GPU, some of the time goes into finding the fastest form of a U-Net.
"""

from __future__ import annotations

import argparse
import math
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import torch
from learner import Batch, Learner
from pool import Drawn, Pool, n_coherent
from torch import Tensor

from danna_sep import weights
from danna_sep.errors import DannaSepError
from danna_sep.models import XUMX, DemucsConfig
from danna_sep.training.augment import AugmentConfig, augment, margin
from danna_sep.training.combinations import combinations_of
from danna_sep.training.recipe import Recipe, with_settings
from danna_sep.training.recipes import find_recipe
from danna_sep.training.statistics import fit_statistics

AT_ONCE = 2
"""Batches that are augmented together: for Python little more work than one, and that is what a fast GPU waits for."""
EARLY = "-early"
"""Ends names of weights at two thirds of the time."""

AUGMENTATION = (
    "augment.p_speed=0.6",
    "augment.speeds=[70,76,84,90,95,106,112,120,132,140]",
    "augment.p_pitch=0.1",
    "augment.p_eq=0.4",
    "augment.p_reverb=0.1",
    "augment.p_compress=0.15",
    "augment.p_lowpass=0.1",
)
RECIPES: Mapping[str, tuple[tuple[str, ...], float]] = {
    "small-unet": (("config.growth=16", "loss.time_weight=1.0", "optimiser.lr=2e-3", "optimiser.ema=0.999"), 1.0),
    "small-demucs": (("config.width=12", "optimiser.lr=1e-3", "optimiser.ema=0.999"), 0.45),
    "small-xumx": (
        ("config.hidden=128", "loss.time_weight=1.0", "optimiser.lr=2e-3", "optimiser.ema=0.999"),
        0.45,
    ),
}
"""What differs from the recipes, and for which part of the time each is trained."""


SETTINGS = ("config.", "loss.", "augment.", "optimiser.lr=", "optimiser.ema=", "optimiser.clip_norm=")
"""What of a recipe can be set: the rest is as this program has it."""

MODELS = tuple(find_recipe(name).model for name in RECIPES)


def mean_loss(learner: Learner) -> float:
    """Of the last steps, but for the very last: they may not be computed yet."""
    return float(torch.stack(learner.losses[-53:-3]).mean()) if len(learner.losses) > 3 else math.nan


def wait_for_full(ready: queue.Queue[Batch | BaseException]) -> None:
    """So that nothing is made while times are taken; not for long."""
    for _ in range(100):
        if ready.full():
            return
        time.sleep(0.05)


def begin(learners: list[Learner], batch: Batch) -> None:
    """What is set by the first batch."""
    if batch.made is not None:
        batch.made.synchronize()
    for learner in learners:
        if isinstance(learner.model, XUMX) and learner.begun is None:
            fit_statistics(learner.model, [batch.stems.sum(1)])
        if batch.made is not None:
            learner.choose_form(batch)
    if batch.made is not None:
        torch.cuda.synchronize()


def n_samples_of(learners: Sequence[Learner], n_frames: int) -> int:
    """Of an excerpt: so many frames of the longest hop among the models; others hear more."""
    hops = [1024 if isinstance(each.config, DemucsConfig) else each.config.hop_length for each in learners]
    return (n_frames - 1) * max(hops)


def batches(
    pool: Pool,
    recipe: Recipe,
    batch_size: int,
    n_samples: int,
    ready: queue.Queue[Batch | BaseException],
    stop: threading.Event,
) -> None:
    """Augmented batches in the device's memory, without end; and songs taken in between them."""
    n_frames = n_samples + margin(n_samples, recipe.augment)
    in_tune = replace(recipe.augment, p_speed=0.0, p_pitch=0.0)
    stream = torch.cuda.Stream() if pool.device.type == "cuda" else None
    taking = ThreadPoolExecutor(1)
    arriving = taking.submit(pool.take_in)
    while not stop.is_set():
        if arriving.done() or pool.lacks:
            arriving.result()  # an archive that cannot be read ends it all
            arriving = taking.submit(pool.take_in)
        if pool.lacks:
            time.sleep(0.2)
            continue
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            drawn = [pool.draw(batch_size, n_frames) for _ in range(AT_ONCE)]
            n = n_coherent(batch_size)
            ways = (slice(0, n), in_tune), (slice(n, batch_size), recipe.augment)
            parts = [augmented(drawn, some, n_samples, way) for some, way in ways if some.start < some.stop]
            for each, *stems in zip(drawn, *parts, strict=True):
                known = combinations_of(each.annotated, with_mixture=True).to(pool.device)
                whole = torch.cat(stems).nan_to_num_(0, 0, 0)
                put(Batch(whole, known, None if stream is None else stream.record_event()), ready, stop)


def augmented(drawn: Sequence[Drawn], some: slice, n_samples: int, way: AugmentConfig) -> Sequence[Tensor]:
    """Some items of each of several batches, augmented together: as each would be by itself."""
    stems = torch.cat([each.stems[some] for each in drawn])
    seeds = torch.cat([each.seeds[some] for each in drawn])
    return augment(stems, seeds, n_samples, way).chunk(len(drawn))


def put(item: Batch | BaseException, ready: queue.Queue[Batch | BaseException], stop: threading.Event) -> None:
    """Into the queue when there is room, or nowhere once it is over."""
    while not stop.is_set():
        with suppress(queue.Full):
            ready.put(item, timeout=0.2)
            return


@contextmanager
def producing(
    pool: Pool, recipe: Recipe, batch_size: int, n_samples: int
) -> Iterator[queue.Queue[Batch | BaseException]]:
    """Where batches come from, or what keeps them from coming; they are made in a thread."""
    ready: queue.Queue[Batch | BaseException] = queue.Queue(3)
    stop = threading.Event()

    def produce() -> None:
        try:
            batches(pool, recipe, batch_size, n_samples, ready, stop)
        except BaseException as error:
            put(error, ready, stop)
            raise

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        yield ready
    finally:
        stop.set()
        thread.join()  # one that computes while Python ends would abort it all


def learners_of(
    models: Sequence[str], begun: Sequence[Path], rate: float, settings: Sequence[str], device: torch.device
) -> list[Learner]:
    """Those that are wanted, going on from given weights or from nothing, the longest till the end.

    Args:
        models: Of MODELS; none: all.
        begun: Weights to go on from; of one model, too, if their names differ.
        rate: Times the recipes' learning rates.
        settings: As `danna-sep train --set` takes them, for all; of what counts here, see SETTINGS.
        device: Where.

    Raises:
        SystemExit: Weights that cannot be used, of a model that is not trained, or two of one name; settings that are
            unknown or have no effect here.
    """
    for setting in settings:
        if not setting.startswith(SETTINGS):
            raise SystemExit(f"--set {setting}: not one of {', '.join(SETTINGS)}, which are all that count here")
    starts: dict[str, weights.WeightsFile] = {}
    for path in begun:
        try:
            file = weights.read(path)
        except DannaSepError as error:
            raise SystemExit(str(error)) from None
        if path.stem in starts or file.model not in (models or MODELS):
            raise SystemExit(f"{path}: weights of {file.model}, which is not trained, or has others of that name")
        starts[path.stem] = file
    found = []
    for name, (differences, share) in RECIPES.items():
        recipe = with_settings(find_recipe(name), (*AUGMENTATION, *differences))
        if models and recipe.model not in models:
            continue
        own = {stem: file for stem, file in starts.items() if file.model == recipe.model}
        for own_name, start in own.items() or ((recipe.model, None),):
            configured = recipe if start is None else replace(recipe, config=start.config)
            try:
                configured = with_settings(configured, settings)
                optimiser = replace(configured.optimiser, lr=rate * configured.optimiser.lr)
                found.append(Learner(own_name, replace(configured, optimiser=optimiser), share, device, start))
            except DannaSepError as error:
                raise SystemExit(str(error)) from None
    names = [f"{learner.name}{suffix}" for learner in found for suffix in ("", EARLY)]
    for name in names:
        if names.count(name) > 1:
            raise SystemExit(f"{name}.safetensors: would be written twice; give weights names that differ by more")
    longest = max(learner.share for learner in found)
    for learner in found:
        learner.share /= longest
    return found


def train(
    learners: list[Learner],
    folder: Path,
    out: Path,
    seconds: float,
    batch_size: int,
    n_frames: int,
    notes: Mapping[str, str],
) -> None:
    """Until time is up, on batches of so many excerpts of so many frames."""
    device = learners[0].device
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    began = time.time()
    deadline, step, written = began + seconds, 0, False
    told = time.monotonic()
    pool = Pool(folder, device)
    with producing(pool, learners[0].recipe, batch_size, n_samples_of(learners, n_frames)) as ready:
        while True:
            if step % 10 == 0 and (folder / "deadline").exists():
                deadline = float((folder / "deadline").read_text())
            done = (time.time() - began) / max(1e-3, deadline - began)
            if done >= 1:
                break
            try:
                item = ready.get(timeout=1)
            except queue.Empty:
                continue
            if isinstance(item, BaseException):
                raise item
            if step == 0:
                wait_for_full(ready)
                begin(learners, item)
            for learner in learners:
                if done < learner.share:
                    learner.learn(item, done / learner.share)
            step += 1
            if step in (5, 10, 20) or step % 50 == 0:
                rates = "; ".join(f"{learner.name} {learner.step}: {mean_loss(learner):.4f}" for learner in learners)
                now = time.monotonic()
                so_far = f"{time.time() - began:.0f} s, done {done:.3f}, queue {ready.qsize()}"
                print(f"{so_far}: {rates} ({now - told:.1f} s)", flush=True)
                if device.type == "cuda":
                    print(f"   {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB", flush=True)
                told = now
            if done > 0.67 and not written:
                written = True
                write(learners, out, notes, EARLY)
    if not step:
        raise SystemExit(f"{folder}: no songs came, or none with a share of {' or '.join(pool.lacks) or 'anything'}")
    write(learners, out, notes, "")


def write(learners: list[Learner], out: Path, notes: Mapping[str, str], suffix: str) -> None:
    """All weights, and that they are there."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    out.mkdir(parents=True, exist_ok=True)
    for learner in learners:
        if suffix and learner.share < 1:
            continue
        learner.write(out / f"{learner.name}{suffix}.safetensors", notes)
    print(f"written{suffix}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--frames", type=int, default=256, help="of an excerpt, by the longest hop among the models")
    parser.add_argument("--model", action="append", default=[], choices=MODELS, help="only this one; may be repeated")
    parser.add_argument("--from", action="append", default=[], dest="begun", type=Path, help="weights to go on from")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="as of danna-sep train, for all")
    parser.add_argument("--rate", type=float, default=1.0, help="learning rates, times this")
    parser.add_argument("--training", default="", help="a note for the weights' headers")
    arguments = parser.parse_args()
    notes = {"training": arguments.training} if arguments.training else {}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for path in arguments.begun:
        if path.resolve().parent == arguments.out.resolve():
            parser.error(f"{path}: would be replaced; give another --out")
    learners = learners_of(arguments.model, arguments.begun, arguments.rate, arguments.settings, device)
    train(learners, arguments.songs, arguments.out, arguments.seconds, arguments.batch, arguments.frames, notes)


if __name__ == "__main__":
    main()
