"""Put the vocals of real songs over instrumental music, of which nothing else is known: mixtures whose voices are.

    python bundle/sung.py --vocals left-out --over instrumentals --out work/sung

`instrumentals` is what `instrumentals.py` lists. Of some of its pieces, evenly out of all, half a minute in the middle,
with as much of vocals, the songs' loudest in turn, 3 dB below the music. Writes folders with mixture and vocals.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
from judge import LENGTH_S

from danna_sep.errors import DannaSepError, SongsError
from danna_sep.songs import Song, find_songs
from danna_sep.songs.song import Samples
from danna_sep.types import SAMPLE_RATE

BELOW_DB = 3.0
N_FRAMES = LENGTH_S * SAMPLE_RATE
N_PLACES = 3
"""Of a song."""
PEAK = 0.9
SILENT = 1e-8
"""Mean square."""


def loudest(song: Song) -> list[Samples]:
    """The song's vocals where most is sung, in places that do not overlap."""
    places = [
        song.read_stem("vocals", start, min(N_FRAMES, song.n_frames - start))
        for start in range(0, max(1, song.n_frames - N_FRAMES // 2), N_FRAMES)
    ]
    return sorted(places, key=lambda samples: -float(np.square(samples).sum()))[:N_PLACES]


def over(piece: Song, voice: Samples) -> dict[str, Samples]:
    """Mixture and vocals, of the middle of a piece.

    Raises:
        SongsError: It is silent there.
    """
    music = piece.read((piece.n_frames - voice.shape[1]) // 2, voice.shape[1]).mixture
    music_power, voice_power = (float(np.square(samples).mean()) for samples in (music, voice))
    if music_power < SILENT:
        raise SongsError(f"{piece.name}: is silent in its middle; leave it out")
    vocals = voice * np.float32(np.sqrt(music_power / voice_power) * 10 ** (-BELOW_DB / 20))
    gain = np.float32(PEAK / np.abs(music + vocals).max())
    return {"mixture": gain * (music + vocals), "vocals": gain * vocals}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocals", type=Path, required=True, help="folder of real songs")
    parser.add_argument("--over", type=Path, required=True, help="what instrumentals.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pieces", type=int, default=14)
    arguments = parser.parse_args()
    if arguments.pieces < 1:
        parser.error("--pieces must be one at least")
    if arguments.out.exists() and any(arguments.out.iterdir()):
        parser.error(f"{arguments.out}: there is something in it already; give another folder")
    try:
        voices = [samples for song in find_songs(arguments.vocals) for samples in loudest(song) if samples.any()]
        pieces = [piece for piece in find_songs(arguments.over) if piece.n_frames >= N_FRAMES]
        if not voices:
            parser.error(f"{arguments.vocals}: nothing sung in it")
        if sung := [piece.name for piece in pieces if "vocals" not in piece.silent]:
            parser.error(f"{arguments.over}: {sung[0]}: is not said to be without vocals; see instrumentals.py")
        if len(pieces) < arguments.pieces:
            parser.error(f"{arguments.over}: has {len(pieces)} pieces of {LENGTH_S} s, not {arguments.pieces}")
        places = np.linspace(0, len(pieces) - 1, arguments.pieces).round().astype(int)
        mixed = {
            f"{number:02d}-{pieces[place].name.replace('/', '-')}": over(pieces[place], voices[number % len(voices)])
            for number, place in enumerate(places)
        }
    except DannaSepError as error:
        parser.error(str(error))
    for folder, parts in mixed.items():
        (arguments.out / folder).mkdir(parents=True)
        for name, samples in parts.items():
            soundfile.write(arguments.out / folder / f"{name}.flac", samples.T, SAMPLE_RATE, subtype="PCM_24")


if __name__ == "__main__":
    main()
