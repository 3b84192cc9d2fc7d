"""Take the music of the game Freedoom out of its files, for `danna-sep synthesise --scores`.

    python bundle/scores.py freedoom1.wad freedoom2.wad --out scores

A WAD file ends with a directory of lumps: place, length, name of each. Those that are MIDI files are written, each
piece once, with an `origin.json` that says whose they are.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path

ORIGIN = {
    "bank": "Freedoom, music",
    "licence": "BSD-3-Clause",
    "attribution": "Copyright (c) 2001-2019 Contributors to the Freedoom project",
}


def lumps(wad: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each lump.

    Raises:
        ValueError: Not a WAD file, or a damaged one.
    """
    try:
        kind, n_lumps, directory = struct.unpack_from("<4sii", wad)
        if kind not in (b"IWAD", b"PWAD"):
            raise ValueError("not a WAD file")
        for index in range(n_lumps):
            start, length, name = struct.unpack_from("<ii8s", wad, directory + 16 * index)
            if start < 0 or length < 0 or start + length > len(wad):
                raise ValueError("not a whole WAD file")
            name = re.sub(r"[^A-Za-z0-9_-]", "_", name.split(b"\0")[0].decode("latin-1"))
            yield name or "unnamed", wad[start : start + length]
    except struct.error:
        raise ValueError("not a whole WAD file") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wads", nargs="+", type=Path, metavar="WAD")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args()
    pieces: dict[bytes, str] = {}
    for path in arguments.wads:
        try:
            for name, content in lumps(path.read_bytes()):
                if content.startswith(b"MThd") and content not in pieces:
                    pieces[content] = name if name not in pieces.values() else f"{name}-{len(pieces)}"
        except (OSError, ValueError) as error:
            raise SystemExit(f"{path}: {error}") from None
    if not pieces:
        raise SystemExit(f"{arguments.wads[0]}: no MIDI files in it")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for content, name in pieces.items():
        (arguments.out / f"{name}.mid").write_bytes(content)
    (arguments.out / "origin.json").write_text(json.dumps(ORIGIN, indent=1) + "\n", encoding="utf-8")
    print(f"{len(pieces)} pieces in {arguments.out}")


if __name__ == "__main__":
    main()
