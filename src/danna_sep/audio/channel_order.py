"""The order of channels: everything here has that of WAV files, and only Vorbis and Opus have another.

Reference: Vorbis I specification, section 4.3.9, which RFC 7845 (section 5.1.1.2) takes over for Opus, there for
channels that belong to speakers. WAV's order is that of the speakers' bits in WAVEFORMATEXTENSIBLE.
"""

from __future__ import annotations

from typing import Final

# For each channel in WAV order, where Vorbis has it, by the number of channels; other numbers have one order in both.
_VORBIS_PLACES: Final[dict[int, tuple[int, ...]]] = {
    3: (0, 2, 1),  # Vorbis: FL FC FR
    5: (0, 2, 1, 3, 4),  # FL FC FR BL BR
    6: (0, 2, 1, 5, 3, 4),  # FL FC FR BL BR LFE
    7: (0, 2, 1, 6, 5, 3, 4),  # FL FC FR SL SR BC LFE; WAV: FL FR FC LFE BC SL SR
    8: (0, 2, 1, 7, 5, 6, 3, 4),  # FL FC FR SL SR BL BR LFE
}


def vorbis_to_wav(n_channels: int) -> tuple[int, ...] | None:
    """For each channel in WAV order, its index in the order of Vorbis and Opus; None if the orders are one."""
    return _VORBIS_PLACES.get(n_channels)


def wav_to_vorbis(n_channels: int) -> tuple[int, ...] | None:
    """For each channel in the order of Vorbis and Opus, its index in WAV order; None if the orders are one."""
    places = vorbis_to_wav(n_channels)
    return None if places is None else tuple(places.index(channel) for channel in range(n_channels))
