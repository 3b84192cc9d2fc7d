"""What the band plays on: recordings, soundfonts, or only what can be computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from danna_sep.errors import SongsError
from danna_sep.training.synthesis.origins import Origin
from danna_sep.training.synthesis.recordings import Recordings
from danna_sep.training.synthesis.scores import find_scores
from danna_sep.training.synthesis.soundfonts import Soundfonts, installed

VOICES = "voices/*/*"


@dataclass(frozen=True)
class Studio:
    """Instruments and singers that there are; without any, computed synthesisers play and nobody sings.

    Attributes:
        recordings: Or None.
        soundfonts: None at all if it is empty.
        scores: Files of music that people wrote; the band plays nothing else if there are any.
    """

    recordings: Recordings | None = None
    soundfonts: Soundfonts = field(default_factory=lambda: Soundfonts(()))
    scores: tuple[Path, ...] = ()

    def forget_credits(self) -> None:
        """Begin a list of what is used."""
        self.soundfonts.used.clear()
        if self.recordings is not None:
            self.recordings.used.clear()

    def credits(self) -> tuple[Origin, ...]:
        """The origins of all that was used since `forget_credits`, by name."""
        used = set(self.soundfonts.used) | (self.recordings.used if self.recordings is not None else set())
        return tuple(sorted(used, key=lambda origin: origin.bank))


def open_studio(
    recordings: Path | None, soundfonts: tuple[Path, ...] | None = None, scores: Path | None = None
) -> Studio:
    """A studio.

    Args:
        recordings: Folder of recordings; None to compute all, without vocals.
        soundfonts: Files; None for the free ones that this machine has in the usual places.
        scores: Folder of MIDI files to play; None to make music up.

    Raises:
        SongsError: A folder or soundfont that is not there, a folder of recordings without voices, or of scores without
            any.
        MissingExtra: Scores need mido, which is not installed.
    """
    found = None if recordings is None else Recordings(recordings)
    if found is not None and not (found.files(VOICES) or found.files("voices/producerspace/*/*")):
        raise SongsError(f"{recordings}: no voices in it that may be used, so no vocals; docs/synthesis.md lists them")
    written = () if scores is None else find_scores(scores)
    return Studio(found, Soundfonts(installed() if soundfonts is None else soundfonts), written)
