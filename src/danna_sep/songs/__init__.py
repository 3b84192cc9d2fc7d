"""Songs with their stems, as training and evaluation read them: MUSDB18's layouts, MoisesDB's, or a manifest.

Arrays are numpy float32 at 44.1 kHz, stereo; nothing here imports torch.
"""

from __future__ import annotations

from danna_sep.songs.find import SPLITS, find_songs
from danna_sep.songs.manifest import MANIFEST_NAME
from danna_sep.songs.song import Song, SongExcerpt, StemFile

__all__ = ["MANIFEST_NAME", "SPLITS", "Song", "SongExcerpt", "StemFile", "find_songs"]
