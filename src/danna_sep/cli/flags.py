"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from danna_sep.threads import MOST_THREADS

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more; show where an unexpected error came from.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout instead.")]
Threads = Annotated[int | None, typer.Option(min=1, max=MOST_THREADS, metavar="N", help="Threads on the CPU.")]
