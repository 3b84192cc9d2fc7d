"""The commands of those who train, measure and blend, and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from danna_sep.cli.failures import ending_the_program
from danna_sep.cli.flags import Json, Verbose
from danna_sep.options import DEFAULT_OVERLAP

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
    seed: Annotated[int, typer.Option(metavar="N", help="Of weights, batches and augmentation.")] = 0,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, metavar="N", help="Processes that read songs.")] = 2,
    threads: Annotated[int | None, typer.Option(min=1, metavar="N", help="Threads on the CPU.")] = None,
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

        run(
            Request(
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
        )


def recipes() -> None:
    """Lists the recipes for training."""
    with ending_the_program():
        from danna_sep.cli.train import list_recipes

        list_recipes()


def reproduce(
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="MUSDB18-HQ: train and test.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the runs.")] = Path("runs/paper"),
    tiny: Annotated[bool, typer.Option("--tiny", help="Toy networks, made-up songs: tries the chain.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Of weights, batches and augmentation.")] = 0,
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

        run(ReproduceRequest(data, out, tiny, seed, device, workers, jobs, as_json))


def evaluate(
    system: Annotated[
        str, typer.Argument(metavar="PRESET|STEMS", help="A preset, or a folder STEMS/SONG/drums.wav of any separator.")
    ],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of songs with their true stems.")],
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only these songs of DIR: train, valid or test.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results.")] = Path(
        "evaluation"
    ),
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Songs at the same time.")] = 1,
    only_mdx: Annotated[bool, typer.Option("--only-mdx", help="Without BSS Eval: faster.")] = False,
    shifts: Annotated[int, typer.Option(min=1, metavar="N", help="Average N runs of Demucs: slower, better.")] = 1,
    segment: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds heard at once.  [default: as separate]")
    ] = None,
    overlap: Annotated[
        float, typer.Option(metavar="X", help="Share of a segment in common with the next.")
    ] = DEFAULT_OVERLAP,
    whole: Annotated[bool, typer.Option("--whole", help="The whole song at once; needs much memory.")] = False,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to separate.")] = "auto",
    precision: Annotated[
        str,
        typer.Option(metavar="auto|f32|bf16|int8", help="Arithmetic of the networks; auto: the processor's fastest."),
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads on the CPU of each of the jobs.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist already.")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measures how good stems are.

    Separates the songs of a folder, or takes stems that are there, and compares them with the true ones: BSS Eval v4
    (as the package museval) and the SDR of the Music Demixing Challenge 2021. Writes results.json, report.html and
    boxplot.png.
    """
    with ending_the_program(verbose):
        from danna_sep.cli.evaluate import Request, run

        request = Request(
            system=system,
            data=data,
            split=split,
            out_dir=out,
            jobs=jobs,
            threads=threads,
            only_mdx=only_mdx,
            segment_s=segment,
            overlap=overlap,
            shifts=shifts,
            whole=whole,
            device=device,
            precision=precision,
            overwrite=overwrite,
            as_json=as_json,
            verbose=verbose,
        )
        raise typer.Exit(run(request))


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Results of one system: results.json, or its folder.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Results of the other.")],
    as_json: Json = False,
) -> None:
    """Compares two evaluations.

    How far B is above A in dB, on the songs that both have, with 95 % intervals by a bootstrap over songs.
    """
    with ending_the_program():
        from danna_sep.cli.evaluate import compare as show_difference

        raise typer.Exit(show_difference(first, second, as_json))


def fit_blend(
    separators: Annotated[
        list[str],
        typer.Argument(metavar="SEPARATORS", help="Presets, preset files, plug-ins, or folders of finished stems."),
    ],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder of songs with stems, or a manifest of them.")],
    split: Annotated[
        str | None, typer.Option(metavar="train|valid|test", help="Only these songs.  [default: all]")
    ] = None,
    constraint: Annotated[
        str, typer.Option(metavar="non-negative|convex|free", help="Convex: not negative, and they sum to one.")
    ] = "non-negative",
    objective: Annotated[
        str,
        typer.Option(metavar="sdr|songs|energy", help="Best mean SDR; least mean error over energy; least error."),
    ] = "sdr",
    excerpt: Annotated[
        float | None, typer.Option(metavar="S", help="Only so many seconds of each song.  [default: all]")
    ] = None,
    excerpt_from: Annotated[
        str, typer.Option(metavar="middle|start", help="Where in the song they are taken.")
    ] = "middle",
    folds: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Parts for cross-validation.  [default: each song]")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(metavar="PRESET", help="Report on this one's weights too; it must have the same separators."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write a preset file, which ends in .json.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the preset file.")] = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No bar.")] = False,
    verbose: Verbose = False,
) -> None:
    """Finds the best blend of separators.

    The weight of each in each stem that is best on songs with known stems, how good it is there, and how good on songs
    left out of the fit.
    """
    with ending_the_program(verbose):
        from danna_sep.cli.fit_blend import Request, run

        request = Request(
            separators=separators,
            data=data,
            split=split,
            constraint=constraint,
            objective=objective,
            excerpt_s=excerpt,
            excerpt_from=excerpt_from,
            folds=folds,
            compare=compare or [],
            out=out,
            device=device,
            overwrite=overwrite,
            as_json=as_json,
            quiet=quiet,
        )
        raise typer.Exit(run(request))


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
