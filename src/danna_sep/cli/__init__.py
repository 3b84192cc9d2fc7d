"""The command line: `danna-sep`. Parsing and rendering only; NumPy and torch are imported when a command runs."""

from __future__ import annotations

from danna_sep.cli.app import app, main

__all__ = ["app", "main"]
