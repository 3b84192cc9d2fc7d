"""The commands and their options."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from danna_sep import __version__
from danna_sep.cli.failures import INTERRUPTED, OK, ending_the_program
from danna_sep.options import DEFAULT_OVERLAP

if TYPE_CHECKING:
    from danna_sep.cli.render import Report

_EPILOG = """
\b
Examples:
  danna-sep song.mp3                             stems in separated/song/
  danna-sep *.flac --out stems --format flac     many songs
  danna-sep song.wav --two-stems vocals          vocals, and all but the vocals
  danna-sep separate --help                      all options

\b
Exit codes:
  0    all done
  1    something unexpected; --verbose shows where
  2    wrong usage, or an input that cannot be separated
  3    an output that cannot be written
  4    weights that are missing or damaged
  130  interrupted by Ctrl-C (143: by SIGTERM; 141: nobody reads stdout)
With several failures the first one's.
"""


class _SeparateByDefault(TyperGroup):
    """`danna-sep SONG` is `danna-sep separate SONG`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if args and args[0] not in {*self.commands, *own}:
            args = ["separate", *args]
        return super().parse_args(ctx, args)


_SETTINGS = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    name="danna-sep",
    cls=_SeparateByDefault,
    help="Separates music into drums, bass, other and vocals.",
    epilog=_EPILOG,
    context_settings=_SETTINGS,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
weights_app = typer.Typer(
    help="Lists, checks, fetches and imports weights.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(weights_app, name="weights")
data_app = typer.Typer(help="Looks at songs with stems.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")

_Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more; show where an unexpected error came from.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout instead.")]


def main() -> None:
    """The program."""
    if hasattr(sys.stdout, "reconfigure"):
        # Names of files can hold bytes that are no text; they come out as they are.
        sys.stdout.reconfigure(errors="backslashreplace" if sys.platform == "win32" else "surrogateescape")
    try:
        app(prog_name="danna-sep")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"danna-sep {__version__}")
        raise typer.Exit(OK)


@app.callback()
def _group(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command(epilog=_EPILOG, no_args_is_help=True)
def separate(
    files: Annotated[list[Path], typer.Argument(metavar="FILES", help="Songs; after -- if a name begins with -.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the stems.")] = Path("separated"),
    name_template: Annotated[
        str, typer.Option(metavar="NAME", help="Path of a stem in DIR: {track}, {stem}, {ext}, {preset}.")
    ] = "{track}/{stem}.{ext}",
    stems: Annotated[
        str | None, typer.Option(metavar="LIST", help="Only these of drums,bass,other,vocals: faster.")
    ] = None,
    two_stems: Annotated[
        str | None, typer.Option(metavar="STEM", help="This stem, and the song without it as 'accompaniment'.")
    ] = None,
    preset: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="The system; see `danna-sep presets`. Or a preset file.")
    ] = "danna",
    shifts: Annotated[int, typer.Option(min=1, metavar="N", help="Average N runs of Demucs: slower, better.")] = 1,
    segment: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds heard at once; less needs less memory.  [default: 8.9]")
    ] = None,
    overlap: Annotated[
        float, typer.Option(metavar="X", help="Share of a segment in common with the next.")
    ] = DEFAULT_OVERLAP,
    whole: Annotated[bool, typer.Option("--whole", help="The whole song at once; needs much memory.")] = False,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, metavar="N", help="Threads on the CPU.")] = None,
    format: Annotated[str, typer.Option(metavar="wav|flac|mp3|ogg", help="Format of the stems.")] = "wav",
    bits: Annotated[
        str, typer.Option(metavar="auto|16|24|float", help="Bits of a sample; auto: those of the song.")
    ] = "auto",
    channels: Annotated[
        str,
        typer.Option(
            metavar="error|pairs|front|downmix",
            help="With more than two: refuse; separate each pair; only the first two; mix to stereo.",
        ),
    ] = "error",
    repair: Annotated[bool, typer.Option("--repair", help="Take NaN and infinite samples as silence.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace stems that exist already.")] = False,
    as_json: _Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No bar, and no list of what was written.")] = False,
    verbose: _Verbose = False,
) -> None:
    """Separates songs into stems.

    They get the song's own sample rate, length and channels. The word "separate" can be left out.
    """
    with ending_the_program(verbose):
        from danna_sep.cli import render
        from danna_sep.cli.separate import Request, run

        report = render.choose(as_json, quiet)
        request = Request(
            files=files,
            out_dir=out,
            template=name_template,
            stems=stems,
            two_stems=two_stems,
            preset=preset,
            shifts=shifts,
            segment_s=segment,
            overlap=overlap,
            whole=whole,
            device=device,
            threads=threads,
            format=format,
            bits=bits,
            channels=channels,
            repair=repair,
            overwrite=overwrite,
            verbose=verbose,
        )
        with _logs_as_warnings(report):
            code = run(request, report)
        raise typer.Exit(code)


@app.command(no_args_is_help=True)
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
    segment: Annotated[float | None, typer.Option(metavar="S", help="Seconds heard at once.  [default: 8.9]")] = None,
    overlap: Annotated[
        float, typer.Option(metavar="X", help="Share of a segment in common with the next.")
    ] = DEFAULT_OVERLAP,
    whole: Annotated[bool, typer.Option("--whole", help="The whole song at once; needs much memory.")] = False,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to separate.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads on the CPU of each of the jobs.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist already.")] = False,
    as_json: _Json = False,
    verbose: _Verbose = False,
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
            overwrite=overwrite,
            as_json=as_json,
            verbose=verbose,
        )
        raise typer.Exit(run(request))


@app.command(no_args_is_help=True)
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Results of one system: results.json, or its folder.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Results of the other.")],
    as_json: _Json = False,
) -> None:
    """Compares two evaluations.

    How far B is above A in dB, on the songs that both have, with 95 % intervals by a bootstrap over songs.
    """
    with ending_the_program():
        from danna_sep.cli.evaluate import compare as show_difference

        raise typer.Exit(show_difference(first, second, as_json))


@app.command()
def presets() -> None:
    """Lists the ready-made systems.

    And whether their weights are on this machine; then the separators that other packages bring.
    """
    with ending_the_program():
        from danna_sep.cli.listings import list_presets

        list_presets()


@app.command("fit-blend", no_args_is_help=True)
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
    as_json: _Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No bar.")] = False,
    verbose: _Verbose = False,
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


@app.command()
def doctor(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for stems.")] = Path("separated"),
    as_json: _Json = False,
) -> None:
    """Checks this installation.

    Versions, devices, formats, weights, space on the disk, and a second of sound separated. Exit code 1 if something
    that is needed is broken.
    """
    with ending_the_program():
        from danna_sep.cli.listings import show_doctor

        raise typer.Exit(show_doctor(out, as_json))


@app.command(no_args_is_help=True)
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="What to train; see `danna-sep recipes`.")],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of songs with stems, or a manifest.")],
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
    as_json: _Json = False,
    verbose: _Verbose = False,
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


@app.command()
def reproduce(
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="MUSDB18-HQ: train and test.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the runs.")] = Path("runs/paper"),
    tiny: Annotated[bool, typer.Option("--tiny", help="Toy networks, made-up songs: tries the chain.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Of weights, batches and augmentation.")] = 0,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, metavar="N", help="Processes that read songs.")] = 2,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Songs evaluated at the same time.")] = 1,
    as_json: _Json = False,
    verbose: _Verbose = False,
) -> None:
    """Makes the paper's table: trains and evaluates all rows.

    Stopped or killed, the same command goes on where it was.
    """
    with ending_the_program(verbose):
        from danna_sep.cli.train import ReproduceRequest
        from danna_sep.cli.train import reproduce as run

        run(ReproduceRequest(data, out, tiny, seed, device, workers, jobs, as_json))


@app.command()
def recipes() -> None:
    """Lists the recipes for training."""
    with ending_the_program():
        from danna_sep.cli.train import list_recipes

        list_recipes()


@weights_app.command("list")
def weights_list() -> None:
    """Lists the weights on this machine.

    Whose they are, whether they came with the package, and whether they are whole.
    """
    with ending_the_program():
        from danna_sep.cli.listings import list_weights

        list_weights()


@weights_app.command("verify")
def weights_verify(name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only these.")] = None) -> None:
    """Checks that weights are undamaged.

    Reads them in full and compares their SHA-256. Exit code 4 if any is wrong.
    """
    with ending_the_program():
        from danna_sep.cli.weights import verify

        raise typer.Exit(verify(name))


@weights_app.command("import", no_args_is_help=True)
def weights_import(
    files: Annotated[list[Path], typer.Argument(metavar="FILES", help="The original authors' checkpoints.")],
    verbose: _Verbose = False,
) -> None:
    """Converts the original's checkpoints.

    The preset "original" uses them.
    """
    with ending_the_program(verbose):
        from danna_sep.cli.weights import import_files

        raise typer.Exit(import_files(files, verbose))


@weights_app.command("fetch", no_args_is_help=True)
def weights_fetch(
    name: Annotated[str, typer.Argument(metavar="original", help="What to fetch: only the original's are known.")],
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", hidden=True, help="A mirror: the address of a folder of the files.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No bar.")] = False,
    verbose: _Verbose = False,
) -> None:
    """Downloads the original's checkpoints.

    About 1 GB, from where their authors published them; then imports them.
    """
    with ending_the_program(verbose):
        from danna_sep.cli.weights import fetch

        raise typer.Exit(fetch(name, base_url, quiet))


@data_app.command("check", no_args_is_help=True)
def data_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of songs, or a manifest.")],
    split: Annotated[
        str | None, typer.Option(metavar="train|valid|test", help="Only these songs.  [default: all]")
    ] = None,
    as_json: _Json = False,
    verbose: _Verbose = False,
) -> None:
    """Checks songs with stems before training.

    Decodes every file. Shows stems that are missing, silent, clipped, damaged, of different rates or lengths, that do
    not add up to the mixture or are there twice, and hours per stem. Exit code 2 if a song cannot be used.
    """
    with ending_the_program(verbose):
        from danna_sep.cli.data import check

        raise typer.Exit(check(folder, split, as_json))


@contextmanager
def _logs_as_warnings(report: Report) -> Iterator[None]:
    """What is logged becomes warnings of ours."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            report.warning(None, record.getMessage())

    handler, root = Handler(logging.WARNING), logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
