"""Songs to choose the blend on: voices and patterns that training has not heard, and a real song that it leaves out.

    python provisional/holdout.py --data DIR --out work/holdout

Writes folders with drums, bass, other and vocals. The voices are those of tier B, which may not train what ships but
may judge it, half of them as recorded, half sung again on other melodies; accompaniments come from seeds that
`material.py` is not run with. Two excerpts of the real song stand as songs of their own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import band
import drumming
import numpy as np
import phrases
import score
import singing
import sound as snd
import soundfile

N_SONGS, LENGTH_S, SEED = 8, 30.0, 990
VOICES = {
    "alys": ("alys/[ACE]4/*.ogg", 4.0),
    "ibuki": ("ibuki/*/*.ogg", 0.0),
    "solfege": ("solfege_samples/*/*.ogg", 1.0),
}
REAL, EXCERPTS_S = "rubidium", ((20, 40), (190, 40))
LEVELS_DB = {"drums": -19, "bass": -20, "other": -19, "vocals": -19}


def voice(data: Path, rng: np.random.Generator, bank: str, resung: bool) -> np.ndarray:
    if not resung:
        return phrases.produce(phrases.row(data, rng, bank, LENGTH_S), rng)
    paths = phrases.files(data, bank)
    some = [paths[i] for i in rng.integers(len(paths), size=8)]
    singer = singing.cast(rng, VOICES[bank][1])
    sung, notes, gain = singing.from_stream(rng, some, singer, LENGTH_S)
    lead = singing.sing(sung, singing.contour(rng, singer, len(gain), notes), singer, gain)
    return phrases.produce(snd.stereo(lead[None]), rng)


def song(data: Path, index: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([SEED, index])
    banks = list(VOICES)
    makers = [(drumming.clip, band.bass, band.other), (score.drums, score.bass, score.other)][index % 2]
    stems = dict(zip(("drums", "bass", "other"), (maker(data, rng, LENGTH_S) for maker in makers), strict=True))
    stems["vocals"] = voice(data, rng, banks[index % len(banks)], resung=index // 2 % 2 == 1)
    n_samples = min(stem.shape[1] for stem in stems.values())
    for source, stem in stems.items():
        target = 10 ** ((LEVELS_DB[source] + rng.normal(0, 3)) / 20)
        stems[source] = stem[:, :n_samples] * (target / (np.sqrt(np.mean(stem**2)) + 1e-4))
    peak = np.abs(sum(stems.values())).max()
    return {source: stem * (0.9 / peak) for source, stem in stems.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with cc0-songs and samples")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    phrases.BANKS.update(VOICES)
    for index in range(N_SONGS):
        write(arguments.out / f"made-{index}", song(arguments.data, index))
    real = arguments.data / "cc0-songs" / "train" / REAL
    for start_s, length_s in EXCERPTS_S:
        stems = {
            source: soundfile.read(
                real / f"{source}.ogg", start=start_s * snd.RATE_HZ, frames=length_s * snd.RATE_HZ, dtype="float32"
            )[0].T
            for source in LEVELS_DB
        }
        write(arguments.out / f"{REAL}-{start_s}", stems)


def write(folder: Path, stems: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for source, stem in stems.items():
        soundfile.write(folder / f"{source}.flac", stem.T, snd.RATE_HZ, subtype="PCM_24")


if __name__ == "__main__":
    main()
