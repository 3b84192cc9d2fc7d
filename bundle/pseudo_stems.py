"""Stems of music of which none are known, as a preset hears them: to be mixed anew and trained on.

    python bundle/pseudo_stems.py --of instrumentals --out pseudo

`instrumentals` is what `instrumentals.py` lists. Of each piece the middle is separated; nobody sings in it, so what was
found of vocals is added to other. Stems that lie far below the mixture are hardly more than what was missed of the
others, and are left out, and with fewer than two of them the piece is, and said so. The stems are wrong as the preset
is, but the sum of drums of one piece, bass of another and other of a third has exactly these stems, and none of the
mixtures that the preset erred on: what a network learns of them is less wrong (Tzinis et al., "RemixIT", 2022, for
speech in noise). So songs do not say that they have no vocals: only those that know all four are ever heard whole.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import soundfile

from danna_sep import load, separate
from danna_sep.errors import DannaSepError, SongsError
from danna_sep.songs import Song, find_songs
from danna_sep.types import SAMPLE_RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from danna_sep.separators import Separator

LENGTH_S: Final = 64
N_SHORTEST: Final = 35 * SAMPLE_RATE
BELOW_DB: Final = 18.0
SILENT: Final = 1e-6
"""Mean square."""
PEAK: Final = 0.8


def pseudo_stems(piece: Song, separator: Separator) -> dict[str, NDArray[np.float32]]:
    """Drums, bass and other of the middle of a piece, those that are found; the highest peak of all is 0.8.

    Raises:
        SongsError: Fewer than two are found, or the piece is short or silent.
    """
    if piece.n_frames < N_SHORTEST:
        raise SongsError(f"{piece.name}: is shorter than {N_SHORTEST // SAMPLE_RATE} s")
    length = min(piece.n_frames, LENGTH_S * SAMPLE_RATE)
    mixture = piece.read((piece.n_frames - length) // 2, length).mixture
    power = float(np.square(mixture).mean())
    if power < SILENT:
        raise SongsError(f"{piece.name}: is silent in its middle")
    stems = separate(mixture, SAMPLE_RATE, separator)
    stems["other"] = stems["other"] + stems.pop("vocals")
    least = power * 10 ** (-BELOW_DB / 10)
    found = {name: stem for name, stem in stems.items() if float(np.square(stem).mean()) > least}
    if len(found) < 2:
        raise SongsError(f"{piece.name}: only {' and '.join(found) or 'nothing'} found")
    gain = np.float32(PEAK / max(np.abs(stem).max() for stem in found.values()))
    return {name: gain * stem for name, stem in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", type=Path, required=True, help="what instrumentals.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="danna", help="what separates; default: danna")
    arguments = parser.parse_args()
    if arguments.out.exists() and any(arguments.out.iterdir()):
        parser.error(f"{arguments.out}: there is something in it already; give another folder")
    origins = arguments.of / "origins.json"
    if not origins.is_file():
        parser.error(f"{origins}: does not exist; instrumentals.py writes it beside its list")
    songs = []
    try:
        pieces = find_songs(arguments.of)
        if sung := [piece.name for piece in pieces if "vocals" not in piece.silent]:
            parser.error(f"{arguments.of}: {sung[0]}: is not said to be without vocals; see instrumentals.py")
        separator = load(arguments.preset)
    except DannaSepError as error:
        parser.error(str(error))
    for piece in pieces:
        try:
            stems = pseudo_stems(piece, separator)
        except DannaSepError as error:
            print(f"{error}: left out", file=sys.stderr, flush=True)
            continue
        name = piece.name.replace("/", "-")
        (arguments.out / name).mkdir(parents=True)
        for stem, samples in stems.items():
            soundfile.write(arguments.out / name / f"{stem}.flac", samples.T, SAMPLE_RATE, subtype="PCM_24")
        songs.append({"name": name, "stems": {stem: f"{name}/{stem}.flac" for stem in stems}})
    if not songs:
        parser.error(f"{arguments.of}: no stems found in any piece")
    manifest = {"format": "danna-sep songs", "version": 1, "songs": songs}
    (arguments.out / "songs.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(origins, arguments.out / "origins.json")
    print(f"{len(songs)} songs in {arguments.out}")


if __name__ == "__main__":
    main()
