"""Songs with stems out of music for trackers: drums, bass and other of each module, as its instruments play them.

    python bundle/modules.py FOLDER [FOLDER ...] --out songs

Takes each module (MOD, XM, S3M, IT, STM) in the folders apart by its instruments (`openmpt.py`), which `roles.py` tells
to be drums, bass or other, and writes the sums of each, whose sum is the mixture: nobody sings. Songs in which one of
the three is more than 18 dB below the mixture are left out, and said so: seldom has a song none, and often it was taken
for something else. Each folder must hold an `origin.json` that says whose the music is, with `bank`, `licence` and
`attribution`; `origins.json` gets them all, and `roles.json` the instruments of each stem of each song.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import soundfile
from instrumentals import origin_of
from numpy.typing import NDArray
from openmpt import Module, ModuleError, library
from roles import RATE_HZ, role_by_name, role_by_sound, sound_of

from danna_sep.types import SAMPLE_RATE

SUFFIXES: Final = frozenset({".mod", ".xm", ".s3m", ".it", ".stm"})
STEMS: Final[tuple[str, ...]] = ("drums", "bass", "other")
HEARD_S: Final = 100.0
"""Of an instrument alone."""
LONGEST_S: Final = 240.0
BELOW_DB: Final = 18.0
SILENT: Final = 1e-9
"""Mean square."""
PEAK: Final = 0.8
APART: Final = {".mod": 50}
"""How far left and right channels lie, percent, where it is not as the file says: in MODs each is on one side alone."""


class Taken(NamedTuple):
    """A module in parts.

    Attributes:
        stems: Axes channel, time; the highest peak of these and of the mixture is 0.8.
        instruments: Of each stem: number and name.
    """

    stems: dict[str, NDArray[np.float32]]
    instruments: dict[str, list[tuple[int, str]]]


def instruments_of(path: Path) -> dict[str, list[tuple[int, str]]]:
    """Number and name of those that are heard, of each stem.

    Raises:
        ModuleError: Not a module.
    """
    module = Module(path)
    found: dict[str, list[tuple[int, str]]] = {stem: [] for stem in STEMS}
    for index, notes in sorted(module.notes().items()):
        alone = Module(path).played(RATE_HZ, HEARD_S, instruments={index})
        if np.square(alone).sum() > SILENT * alone.size:
            name = module.names[index]
            found[role_by_name(name) or role_by_sound(sound_of(alone), notes)].append((index, name))
    return found


def taken_apart(path: Path) -> Taken:
    """The stems of a module.

    Raises:
        ModuleError: Not a module, or one without drums, bass or something other that can be told.
    """
    instruments = instruments_of(path)
    apart = APART.get(path.suffix.lower(), 100)
    stems: dict[str, NDArray[np.float32]] = {}
    for stem, members in instruments.items():
        numbers = {index for index, _ in members}
        stems[stem] = Module(path).played(SAMPLE_RATE, LONGEST_S, instruments=numbers, separation=apart)
    length = min(samples.shape[1] for samples in stems.values())
    stems = {stem: samples[:, :length] for stem, samples in stems.items()}
    mixture = sum(stems.values(), np.zeros((2, length), np.float32))
    power = float(np.square(mixture).sum())
    for stem, samples in stems.items():
        if not float(np.square(samples).sum()) > power * 10 ** (-BELOW_DB / 10):
            raise ModuleError(f"{path}: {stem} not found")
    # Stems that cancel each other in part are louder than their sum, and must not be clipped either.
    gain = np.float32(PEAK / max(np.abs(samples).max() for samples in (mixture, *stems.values())))
    return Taken({stem: gain * samples for stem, samples in stems.items()}, instruments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.out.exists() and any(arguments.out.iterdir()):
        parser.error(f"{arguments.out}: there is something in it already; give another folder")
    if library() is None:
        parser.error("libopenmpt is not installed (Debian: libopenmpt0)")
    origins = [origin_of(folder) for folder in arguments.folders]
    songs, roles = [], {}
    for folder in arguments.folders:
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()):
            name = "-".join((folder.name, *path.relative_to(folder).parts))
            try:
                taken = taken_apart(path)
            except (ModuleError, OSError) as error:
                print(f"{error}: left out", file=sys.stderr, flush=True)
                continue
            (arguments.out / name).mkdir(parents=True)
            for stem, samples in taken.stems.items():
                soundfile.write(arguments.out / name / f"{stem}.flac", samples.T, SAMPLE_RATE, subtype="PCM_24")
            stems = {stem: f"{name}/{stem}.flac" for stem in STEMS}
            songs.append({"name": name, "stems": stems, "silent": ["vocals"]})
            roles[name] = taken.instruments
    if not songs:
        parser.error(f"{arguments.folders[0]}: no modules of which stems can be told")
    manifest = {"format": "danna-sep songs", "version": 1, "songs": songs}
    for file, content in (("songs", manifest), ("origins", origins), ("roles", roles)):
        (arguments.out / f"{file}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{len(songs)} songs in {arguments.out}")


if __name__ == "__main__":
    main()
