"""`python -m danna_sep` is `danna-sep`."""

from __future__ import annotations

from danna_sep.cli import main

if __name__ == "__main__":
    main()
