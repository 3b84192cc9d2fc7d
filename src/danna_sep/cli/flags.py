"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more; show where an unexpected error came from.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout instead.")]
