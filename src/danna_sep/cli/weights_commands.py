"""The commands about weights, and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from danna_sep.cli.failures import ending_the_program
from danna_sep.cli.flags import Verbose

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace other weights that are registered under the same name.")
]

weights_app = typer.Typer(
    help="Lists, checks, fetches and imports weights.", no_args_is_help=True, rich_markup_mode=None
)


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
    overwrite: Overwrite = False,
    verbose: Verbose = False,
) -> None:
    """Converts the original's checkpoints.

    The preset "original" uses them. Whose they are follows from their entries alone: their authors published no hashes.
    """
    with ending_the_program(verbose):
        from danna_sep.cli.weights import import_files

        raise typer.Exit(import_files(files, overwrite, verbose))


@weights_app.command("fetch", no_args_is_help=True)
def weights_fetch(
    name: Annotated[str, typer.Argument(metavar="original", help="What to fetch: only the original's are known.")],
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", hidden=True, help="A mirror: the address of a folder of the files.")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No bar.")] = False,
    verbose: Verbose = False,
) -> None:
    """Downloads the original's checkpoints.

    About 1 GB, from where their authors published them; then imports them.
    """
    with ending_the_program(verbose):
        from danna_sep.cli.weights import fetch

        raise typer.Exit(fetch(name, base_url, overwrite, quiet))
