"""The paper's table, from nothing: every row trained, evaluated, and set beside the authors' figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from danna_sep import preset_file
from danna_sep.errors import SongsError, TrainingFailed
from danna_sep.evaluation.evaluate import Failure, evaluate_songs
from danna_sep.evaluation.report import write_report
from danna_sep.evaluation.results import Results, read_results
from danna_sep.evaluation.systems import PresetSystem
from danna_sep.options import Options
from danna_sep.preset_file import FilePart, PresetFile
from danna_sep.songs import Song, find_songs
from danna_sep.training import loop, run_folder, running
from danna_sep.training.events import Event
from danna_sep.training.recipe import with_settings
from danna_sep.training.recipes import find_recipe
from danna_sep.types import SOURCES
from danna_sep.weights.originals import ORIGINAL_BLEND


@dataclass(frozen=True)
class Row:
    """A row of the paper's table.

    Attributes:
        name: As the paper calls the system.
        parts: Recipe whose weights it uses, for each name in the blend.
        blend: Weight of each in drums, bass, other and vocals.
        paper_db: The authors' SDR of drums, bass, other, vocals, and their mean.
    """

    name: str
    parts: Mapping[str, str]
    blend: Mapping[str, Sequence[float]]
    paper_db: tuple[float, ...]


@dataclass(frozen=True)
class Measured:
    """A row that is done.

    Attributes:
        row: Which.
        sdr_db: Ours, as `Row.paper_db`; None where no song has the source.
    """

    row: Row
    sdr_db: tuple[float | None, ...]


@dataclass(frozen=True)
class Trains:
    """What happens in the training of a recipe."""

    recipe: str
    event: Event


@dataclass(frozen=True)
class Settings:
    """How to go about it.

    Attributes:
        changes: Of constants of each recipe, see `recipe.with_settings`.
        training: How to train.
        jobs: Songs that are evaluated at the same time.
    """

    changes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    training: running.Options = field(default_factory=running.Options)
    jobs: int = 1


def _alone(name: str, recipe: str, *paper_db: float) -> Row:
    return Row(name, {recipe: recipe}, {recipe: (1.0,) * len(SOURCES)}, paper_db)


TABLE: Final = (
    _alone("X-UMX (baseline)", "xumx-baseline", 6.44, 5.54, 4.46, 6.54, 5.75),
    _alone("X-UMX", "xumx", 6.71, 5.79, 4.63, 6.93, 6.02),
    _alone("U-Net", "unet", 6.43, 5.35, 4.67, 7.05, 5.87),
    _alone("Demucs (baseline)", "demucs-baseline", 6.67, 6.98, 4.33, 6.89, 6.21),
    _alone("Demucs", "demucs", 6.72, 6.97, 4.40, 6.88, 6.24),
    Row("Danna-Sep", {name: name for name in ORIGINAL_BLEND}, ORIGINAL_BLEND, (7.20, 7.05, 5.20, 7.63, 6.77)),
)
"""Table of the paper: BSS Eval v4, median over windows, then over the songs of MUSDB18-HQ's test set."""


_TINY: Final = (
    "data.excerpt_s=0.5",
    "data.excerpts_per_track=4",
    "data.valid_s=1.0",
    "optimiser.batch_size=2",
    "optimiser.accumulate=2",
    "epochs=2",
)
_TINY_MODELS: Final = {
    "xumx": ("config.hidden=8", "config.n_lstm_layers=1"),
    "unet": (
        "config.n_bins=128",
        "config.growth=2",
        "config.n_layers=[1,1]",
        "config.bottleneck_width=8",
        "config.n_heads=2",
        "config.head_width=4",
    ),
    "demucs": ("config.width=4", "config.n_layers=3"),
}


def tiny_changes() -> dict[str, tuple[str, ...]]:
    """Changes that make toys of all recipes: the whole chain in minutes, with figures that mean nothing."""
    recipes = {recipe for row in TABLE for recipe in row.parts.values()}
    return {recipe: (*_TINY_MODELS[find_recipe(recipe).model], *_TINY) for recipe in sorted(recipes)}


def reproduce(
    data: Path, folder: Path, settings: Settings, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[Trains | Measured]:
    """Train and evaluate all rows; what is done already is not done again.

    As the authors did, all of the training set is trained on, its official validation songs included, on which the
    best epoch is chosen.

    Args:
        data: MUSDB18-HQ, or songs in its layout: train and test.
        folder: For the runs, a folder for each recipe, and the evaluations.
        settings: How.
        cancelled: Asked often.

    Raises:
        SongsError: There are no songs to train on, or to test.
        TrainingFailed: A loss that is not finite, or a song that could not be evaluated.
        Cancelled: When `cancelled` said so; the same call goes on from there.
    """
    songs, valid, test = _splits(data)
    done: set[str] = set()
    for row in TABLE:
        for recipe in row.parts.values():
            if recipe not in done:
                yield from _trained(recipe, songs, valid, folder, settings, cancelled)
                done.add(recipe)
        yield _measured(row, test, data, folder, settings, cancelled)


def _splits(data: Path) -> tuple[list[Song], list[Song], list[Song]]:
    try:
        songs, test = find_songs(data, "train+valid"), find_songs(data, "test")
    except SongsError as error:
        raise SongsError(
            f"{error}. The table needs MUSDB18-HQ, a folder with train (100 songs) and test (50), which its authors "
            "give out for research; to try the whole chain on made-up songs there is --tiny"
        ) from error
    valid = [song for song in songs if song.split == "valid"]
    return songs, valid or songs[:1], test


def _trained(
    name: str, songs: list[Song], valid: list[Song], folder: Path, settings: Settings, cancelled: Callable[[], bool]
) -> Iterator[Trains]:
    recipe = with_settings(find_recipe(name), settings.changes.get(name, ()))
    init = folder / recipe.init / run_folder.BEST if recipe.init else None
    events = loop.train(recipe, songs, valid, folder / name, init=init, options=settings.training, cancelled=cancelled)
    for event in events:
        yield Trains(name, event)


def _measured(
    row: Row, test: list[Song], data: Path, folder: Path, settings: Settings, cancelled: Callable[[], bool]
) -> Measured:
    slug = "".join(letter for letter in row.name.lower().replace(" ", "-") if letter.isalnum() or letter == "-")
    preset = folder / "evaluation" / f"{slug}.json"
    parts = {name: FilePart(folder / recipe / run_folder.BEST) for name, recipe in row.parts.items()}
    blend = {name: dict(zip(SOURCES, weights, strict=True)) for name, weights in row.blend.items()}
    preset_file.write(preset, PresetFile(parts, blend, f"{row.name}, trained with this package"))
    system = PresetSystem(str(preset), Options(device=settings.training.device))
    report = preset.with_suffix("")
    description = system.describe()
    found = read_results(report) if (report / "results.json").exists() else None
    if found is None or dict(found.system) != description:
        outcomes = list(evaluate_songs(test, system, jobs=settings.jobs, cancelled=cancelled))
        results = []
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                raise TrainingFailed(f"{outcome.name}: cannot be evaluated ({outcome.error})") from outcome.error
            results.append(outcome)
        found = Results(description, {"name": data.resolve().name, "split": "test"}, results)
        write_report(report, found)
    return Measured(row, tuple(found.bss_eval_db().values()))
