"""Speech synthesisers that serve as recorded voices: sentences spoken by Flite, where it is installed.

Its voices are men's but for one: men are what free recordings of singing lack.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from danna_sep import audio
from danna_sep.errors import SongsError
from danna_sep.training.synthesis.placing import RATE_HZ, Sound

N_SENTENCES: Final = 60
"""Of each speaker."""

_KNOWN: Final = ("awb", "kal16", "rms", "slt")
_ABOVE: Final = 0.3
"""Level of the highs that are made up, in relation to those that they mirror."""

_WORDS: Final = (
    "again all alone always and away baby back because before believe better blue break broken burning call change "
    "city close cold come cry dance dark day down dream dreaming easy end enough eyes face fall far feel fight find "
    "fire fly follow forever forget free give go gone good got hand happy hard hear heart heaven here high hold "
    "home hope hurt in inside just keep know late leave let lie life light like little live lonely long look lose "
    "love make maybe mind moon more morning mother move my name need never new night nobody nothing now of on one "
    "only open over pain people place play please rain reach ready remember right river road run said save say sea "
    "see shadow shine show sky sleep slow smile so somebody song soul stand star stay still stop street strong "
    "summer sun take talk tell the there thing think through time tonight too touch true try turn under up wait "
    "walk want water way we wild wind window winter wish without wonder world yes yesterday you young"
)


def installed() -> tuple[str, ...]:
    """The speakers that there are; none without Flite."""
    return _voices(shutil.which("flite"))


@functools.cache
def _voices(program: str | None) -> tuple[str, ...]:
    if program is None:
        return ()
    told = subprocess.run([program, "-lv"], capture_output=True, text=True, check=False).stdout.split()
    return tuple(name for name in _KNOWN if name in told)


def sentence(number: int) -> str:
    """Some words in a row: the same for the same number."""
    rng = np.random.default_rng([7, number])
    return " ".join(str(word) for word in rng.choice(_WORDS.split(), size=int(rng.integers(5, 10))))


def say(speaker: str, number: int) -> Sound:
    """A sentence, mono (1, time) at 44.1 kHz, its band widened to twice what Flite gives.

    Flite speaks at 16 kHz. From 8 to 12 kHz lies a softer mirror image of what is below (spectral folding), so that
    consonants hiss as recorded ones do.

    Raises:
        SongsError: Flite failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "said.wav")
        command = ["flite", "-voice", speaker, "-t", sentence(number), "-o", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not path.is_file():
            raise SongsError(f"flite: the voice {speaker} says nothing: {done.stderr.strip() or done.returncode}")
        with audio.AudioReader(path) as reader:
            rate_hz = reader.info.sample_rate
            sound = np.concatenate(list(reader.blocks(2**20)), axis=1)
    resampler = audio.StreamResampler(2 * rate_hz, RATE_HZ, 1)
    return np.concatenate([resampler.push(_widened(sound[:1])), resampler.finish()], axis=1)


def _widened(sound: Sound) -> Sound:
    """The sound at twice its rate, the upper half of its band mirrored softly into the octave above."""
    n_samples = sound.shape[1] // 2 * 2
    spectrum = np.fft.rfft(sound[:, :n_samples])
    n_bins = spectrum.shape[1]
    wide = np.zeros((len(sound), n_samples + 1), dtype=spectrum.dtype)
    wide[:, :n_bins] = spectrum
    upper = spectrum[:, n_bins // 2 : -1].conj()[:, ::-1]
    wide[:, n_bins : n_bins + upper.shape[1]] = _ABOVE * upper
    return np.asarray(2 * np.fft.irfft(wide, 2 * n_samples), dtype=np.float32)
