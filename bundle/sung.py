"""Put the vocals of real songs over instrumental music, of which nothing else is known: mixtures whose voices are.

    python bundle/sung.py --vocals left-out --over instrumentals --out work/sung

`instrumentals` is what `instrumentals.py` lists. Half a minute from the middle of some of its pieces, evenly, each with
half a minute of vocals, from the songs' loudest in turn, 3 dB below the music. Writes folders with mixture and vocals.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from judge import LENGTH_S

from danna_sep.errors import DannaSepError
from danna_sep.songs import Song, find_songs
from danna_sep.types import SAMPLE_RATE

BELOW_DB = 3.0
N_FRAMES = LENGTH_S * SAMPLE_RATE
N_PLACES = 3
"""Of a song."""
PEAK = 0.9


def loudest(song: Song) -> list[npt.NDArray[np.float32]]:
    """The song's vocals where most is sung, in places that do not overlap."""
    places = [
        song.read_stem("vocals", start, min(N_FRAMES, song.n_frames - start))
        for start in range(0, max(1, song.n_frames - N_FRAMES // 2), N_FRAMES)
    ]
    return sorted(places, key=lambda samples: -float(np.square(samples).sum()))[:N_PLACES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocals", type=Path, required=True, help="folder of real songs")
    parser.add_argument("--over", type=Path, required=True, help="what instrumentals.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pieces", type=int, default=14)
    arguments = parser.parse_args()
    try:
        voices = [samples for song in find_songs(arguments.vocals) for samples in loudest(song)]
        pieces = [piece for piece in find_songs(arguments.over) if piece.n_frames >= N_FRAMES]
    except DannaSepError as error:
        parser.error(str(error))
    voices = [samples for samples in voices if samples.any()]
    if not voices or not pieces:
        parser.error(f"{arguments.over if voices else arguments.vocals}: nothing {'long enough' if voices else 'sung'}")
    for number, place in enumerate(np.linspace(0, len(pieces) - 1, arguments.pieces).round().astype(int)):
        piece, voice = pieces[place], voices[number % len(voices)]
        music = piece.read((piece.n_frames - N_FRAMES) // 2, voice.shape[1]).mixture
        if not music.any():
            parser.error(f"{piece.name}: is silent in its middle; leave it out")
        powers = (float(np.square(samples).mean()) for samples in (music, voice))
        vocals = voice * np.float32(np.sqrt(next(powers) / next(powers)) * 10 ** (-BELOW_DB / 20))
        gain = np.float32(PEAK / np.abs(music + vocals).max())
        folder = arguments.out / f"{number:02d}-{piece.name.replace('/', '-')}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, samples in (("mixture", music + vocals), ("vocals", vocals)):
            soundfile.write(folder / f"{name}.flac", (gain * samples).T, SAMPLE_RATE, subtype="PCM_24")


if __name__ == "__main__":
    main()
