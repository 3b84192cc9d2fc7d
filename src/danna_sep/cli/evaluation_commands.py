"""The commands of those who measure and blend, and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from danna_sep.cli.failures import ending_the_program
from danna_sep.cli.flags import Json, Verbose
from danna_sep.options import DEFAULT_OVERLAP
from danna_sep.threads import MOST_THREADS


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
        int | None,
        typer.Option(min=1, max=MOST_THREADS, metavar="N", help="Threads on the CPU of each of the jobs."),
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
    precision: Annotated[
        str, typer.Option(metavar="auto|f32|bf16|int8", help="As of `separate`, which the blend is for.")
    ] = "auto",
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
            precision=precision,
            overwrite=overwrite,
            as_json=as_json,
            quiet=quiet,
        )
        raise typer.Exit(run(request))
