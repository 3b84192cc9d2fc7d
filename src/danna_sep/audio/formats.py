"""Output formats: what each can hold, checked before any work is done."""

from __future__ import annotations

from typing import Final

from danna_sep.audio.info import AudioInfo
from danna_sep.errors import ConfigError

FORMATS: Final = ("wav", "flac", "mp3", "ogg")
BITS: Final = ("auto", "16", "24", "float")

_BITS_OF_FORMAT: Final = {"wav": ("16", "24", "float"), "flac": ("16", "24"), "mp3": ("float",), "ogg": ("float",)}
_MAX_CHANNELS: Final = {"wav": 65535, "flac": 8, "mp3": 2, "ogg": 255}
_MP3_RATES_HZ: Final = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)

# The PCM width that holds all of what an input's samples can be; whatever is not listed is float or lossy.
_BITS_OF_SUBTYPE: Final = {
    **dict.fromkeys(("PCM_S8", "PCM_U8", "PCM_16", "ALAC_16", "DWVW_12", "DWVW_16", "DPCM_8", "DPCM_16"), "16"),
    **dict.fromkeys(("ULAW", "ALAW"), "16"),
    **dict.fromkeys(("PCM_24", "PCM_32", "ALAC_20", "ALAC_24", "ALAC_32", "DWVW_24"), "24"),
}


def resolve_bits(info: AudioInfo, format: str) -> str:
    """The bit depth that `--bits auto` stands for: the input's own, as near as the format comes.

    Args:
        info: The input.
        format: One of FORMATS.

    Returns:
        "16", "24" or "float". An input of 8 or 16 bits gives "16", of 24 or 32 bits "24", a float or lossy one
        "float" ("24" in FLAC). MP3 and Ogg have no bit depth: "float".

    Raises:
        ConfigError: Unknown format.
    """
    allowed = _allowed_bits(format)
    bits = _BITS_OF_SUBTYPE.get(info.subtype, "float")
    return bits if bits in allowed else allowed[-1]


def check_output(format: str, bits: str, sample_rate: int, n_channels: int) -> None:
    """Refuse what a format cannot hold, before any work is done.

    Args:
        format: One of FORMATS.
        bits: "16", "24" or "float"; "float" for mp3 and ogg.
        sample_rate: Hz.
        n_channels: Channels of each stem.

    Raises:
        ConfigError: Says what to choose instead.
    """
    allowed = _allowed_bits(format)
    if bits not in allowed:
        if format in ("mp3", "ogg"):
            raise ConfigError(
                f"--bits {bits}: {format} has no bit depth; leave --bits out, or choose --format wav or flac"
            )
        raise ConfigError(f"--bits {bits}: {format} holds {' or '.join(allowed)}; choose one of these, or --format wav")
    if not 1 <= n_channels <= _MAX_CHANNELS[format]:
        raise ConfigError(
            f"{format} holds 1 to {_MAX_CHANNELS[format]} channels, not {n_channels}; "
            "choose --format wav or --channels front|downmix"
        )
    if format == "mp3" and sample_rate not in _MP3_RATES_HZ:
        rates = ", ".join(str(rate) for rate in _MP3_RATES_HZ)
        raise ConfigError(f"mp3 cannot hold {sample_rate} Hz, only {rates}; choose --format wav, flac or ogg")
    if format == "flac" and sample_rate > 65535 and sample_rate % 10:
        raise ConfigError(f"flac cannot hold {sample_rate} Hz; choose --format wav or ogg")


def sample_step(bits: str) -> float | None:
    """From one sample value of a format to the next, full scale being 1; None where samples are not integers.

    Args:
        bits: "16", "24" or "float".
    """
    return None if bits == "float" else 2.0 ** (1 - int(bits))


def _allowed_bits(format: str) -> tuple[str, ...]:
    if format not in _BITS_OF_FORMAT:
        raise ConfigError(f"--format {format}: choose one of {', '.join(FORMATS)}")
    return _BITS_OF_FORMAT[format]
