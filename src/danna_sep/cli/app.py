"""The commands and their options."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from danna_sep import __version__, threads
from danna_sep.cli import evaluation_commands, training_commands
from danna_sep.cli.failures import INTERRUPTED, OK, ending_the_program
from danna_sep.cli.flags import Json, Threads, Verbose
from danna_sep.cli.weights_commands import weights_app
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
  130  interrupted by Ctrl-C (143: by SIGTERM; 129: by SIGHUP; 141: nobody reads stdout)
With several failures the first one's.
"""


class _SeparateByDefault(TyperGroup):
    """`danna-sep SONG` is `danna-sep separate SONG`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if args and args[0] not in {*self.commands, *own}:
            meant = get_close_matches(args[0], self.commands, 1, 0.75)
            if meant and not args[0].startswith("-") and not os.path.lexists(args[0]):
                raise typer.BadParameter(f"neither a file nor a command; did you mean {meant[0]}?", param_hint=args[0])
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


def main() -> None:
    """The program."""
    threads.spin_briefly()
    _open_what_is_closed()
    if hasattr(sys.stdout, "reconfigure"):
        # Names of files can hold bytes that are no text; they come out as they are.
        sys.stdout.reconfigure(errors="backslashreplace" if sys.platform == "win32" else "surrogateescape")
    try:
        app(prog_name="danna-sep")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _open_what_is_closed() -> None:
    """Programs may be started without stdin, stdout or stderr: what would be shown then goes nowhere.

    Each gets its own descriptor again: of a file that took it, a stem, C libraries would make their stderr.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115


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
        str,
        typer.Option(metavar="NAME|FILE", help="The system; see `danna-sep presets`. Or its file, or weights'."),
    ] = "danna",
    shifts: Annotated[int, typer.Option(min=1, metavar="N", help="Average N runs of Demucs: slower, better.")] = 1,
    segment: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Seconds heard at once; less needs less memory.  [default: 8.9, or 2.5 if that changes nothing]",
        ),
    ] = None,
    overlap: Annotated[
        float, typer.Option(metavar="X", help="Share of a segment in common with the next.")
    ] = DEFAULT_OVERLAP,
    whole: Annotated[bool, typer.Option("--whole", help="The whole song at once; needs much memory.")] = False,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")] = "auto",
    precision: Annotated[
        str,
        typer.Option(metavar="auto|f32|bf16|int8", help="Arithmetic of the networks; auto: the processor's fastest."),
    ] = "auto",
    threads: Threads = None,
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
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No bar, and no list of what was written.")] = False,
    verbose: Verbose = False,
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
            precision=precision,
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


@app.command()
def presets() -> None:
    """Lists the ready-made systems.

    And whether their weights are on this machine; then the separators that other packages bring.
    """
    with ending_the_program():
        from danna_sep.cli.listings import list_presets

        list_presets()


@app.command()
def doctor(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for stems.")] = Path("separated"),
    as_json: Json = False,
) -> None:
    """Checks this installation.

    Versions, devices, formats, weights, space on the disk, and a second of sound separated. Exit code 1 if something
    that is needed is broken.
    """
    with ending_the_program():
        from danna_sep.cli.listings import show_doctor

        raise typer.Exit(show_doctor(out, as_json))


for command in (training_commands.train, evaluation_commands.evaluate, evaluation_commands.compare):
    app.command(no_args_is_help=True)(command)
app.command("fit-blend", no_args_is_help=True)(evaluation_commands.fit_blend)
app.command()(training_commands.reproduce)
app.command()(training_commands.recipes)
app.command(no_args_is_help=True)(training_commands.synthesise)
app.add_typer(weights_app, name="weights")
app.add_typer(training_commands.data_app, name="data")


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
