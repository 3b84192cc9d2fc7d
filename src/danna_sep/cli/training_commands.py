"""The commands of those who train, and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from danna_sep.cli.failures import ending_the_program
from danna_sep.cli.flags import Json, Threads, Verbose

data_app = typer.Typer(help="Looks at songs with stems.", no_args_is_help=True, rich_markup_mode=None)


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="What to train; see `danna-sep recipes`.")],
    data: Annotated[
        list[Path],
        typer.Option("--data", metavar="DIR", help="Folder of songs with stems, or a manifest; may be repeated."),
    ],
    share: Annotated[
        list[float] | None,
        typer.Option(metavar="N", help="How often stems of each --data are drawn, in their order.  [default: alike]"),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="train|train+valid", help="Songs to train on.  [default: train, or all]")
    ] = None,
    valid: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Songs to validate on.  [default: those of DIR's split valid]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder of the run.  [default: runs/RECIPE]")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(metavar="WEIGHTS", help="Weights to start from: a file, or a name as in `weights list`."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a constant, such as optimiser.lr=1e-4."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of weights, batches and augmentation.")] = 0,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, metavar="N", help="Processes that read songs.")] = 2,
    threads: Threads = None,
    save_every: Annotated[
        float, typer.Option(min=0, metavar="S", help="Seconds from one saved state to the next.")
    ] = 300.0,
    stop_after: Annotated[
        float | None, typer.Option(min=0, metavar="MIN", help="Save and stop after so many minutes.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Trains a model by a recipe.

    Stopped or killed, the same command goes on where it was.
    """
    with ending_the_program(verbose):
        from danna_sep.cli.train import Request, run

        request = Request(
            recipe=recipe,
            data=data,
            shares=share or [],
            split=split,
            valid=valid,
            out=out,
            init=init,
            settings=settings or [],
            seed=seed,
            device=device,
            n_workers=workers,
            threads=threads,
            save_every_s=save_every,
            stop_after_min=stop_after,
            as_json=as_json,
        )
        raise typer.Exit(run(request))


def recipes() -> None:
    """Lists the recipes for training."""
    with ending_the_program():
        from danna_sep.cli.train import list_recipes

        list_recipes()


def reproduce(
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="MUSDB18-HQ: train and test.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the runs.")] = Path("runs/paper"),
    tiny: Annotated[bool, typer.Option("--tiny", help="Toy networks, made-up songs: tries the chain.")] = False,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of weights, batches and augmentation.")] = 0,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, metavar="N", help="Processes that read songs.")] = 2,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Songs evaluated at the same time.")] = 1,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Makes the paper's table: trains and evaluates all rows.

    Stopped or killed, the same command goes on where it was.
    """
    with ending_the_program(verbose):
        from danna_sep.cli.train import ReproduceRequest
        from danna_sep.cli.train import reproduce as run

        raise typer.Exit(run(ReproduceRequest(data, out, tiny, seed, device, workers, jobs, as_json)))


def synthesise(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the songs.")],
    recordings: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Free recordings to play on.  [default: computed instruments, no vocals]"),
    ] = None,
    songs: Annotated[int | None, typer.Option(min=0, metavar="N", help="Songs that there are to be.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, metavar="M", help="Minutes that there are to be.")] = None,
    shortest: Annotated[float, typer.Option(metavar="S", help="Seconds of the shortest song.")] = 60.0,
    longest: Annotated[float, typer.Option(metavar="S", help="Seconds of the longest song.")] = 150.0,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of all songs.")] = 0,
    processes: Annotated[int, typer.Option("--processes", "-j", min=1, metavar="P", help="Songs at a time.")] = 1,
    rolling: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Keep N songs; go on replacing the oldest.")
    ] = None,
    soundfont: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Soundfont to play on; may be repeated.  [default: those installed]"),
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(metavar="DIR", help="MIDI files to play.  [default: music is made up]")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Makes songs to train on.

    A synthetic band: drums, bass, other and vocals as stems of songs that no one has heard. Songs that are in the
    folder already stay; more of a seed are added to them.
    """
    with ending_the_program(verbose):
        from danna_sep.cli.synthesise import Request, run

        request = Request(
            recordings=recordings,
            out=out,
            n_songs=songs,
            minutes=minutes,
            shortest_s=shortest,
            longest_s=longest,
            seed=seed,
            processes=processes,
            rolling=rolling,
            soundfonts=soundfont or [],
            scores=scores,
            as_json=as_json,
        )
        raise typer.Exit(run(request))


@data_app.command("check", no_args_is_help=True)
def data_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of songs, or a manifest.")],
    split: Annotated[
        str | None, typer.Option(metavar="train|valid|test", help="Only these songs.  [default: all]")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Checks songs with stems before training.

    Decodes every file. Shows stems that are missing, silent, clipped, damaged, of different rates or lengths, that do
    not add up to the mixture or are there twice, and hours per stem. Exit code 2 if a song cannot be used.
    """
    with ending_the_program(verbose):
        from danna_sep.cli.data import check

        raise typer.Exit(check(folder, split, as_json))
