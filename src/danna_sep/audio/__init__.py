"""The only door to audio files: probe, read in blocks, fit channels and rate, name outputs, write stems.

Arrays are numpy float32 with axes (channel, time), channels in the order of WAV files; full scale is 1.0. Nothing here
imports torch.
"""

from __future__ import annotations

from danna_sep.audio.channels import CHANNEL_POLICIES, ChannelPlan, channel_plan
from danna_sep.audio.excerpt import read_excerpt
from danna_sep.audio.formats import BITS, FORMATS, check_output, resolve_bits, sample_step
from danna_sep.audio.info import MAX_RATE_HZ, MIN_RATE_HZ, AudioInfo
from danna_sep.audio.naming import DEFAULT_TEMPLATE, output_paths
from danna_sep.audio.read import AudioReader, probe
from danna_sep.audio.resample import StreamResampler, resampled_length
from danna_sep.audio.write import StemWriter, WriteReport

__all__ = [
    "BITS",
    "CHANNEL_POLICIES",
    "DEFAULT_TEMPLATE",
    "FORMATS",
    "MAX_RATE_HZ",
    "MIN_RATE_HZ",
    "AudioInfo",
    "AudioReader",
    "ChannelPlan",
    "StemWriter",
    "StreamResampler",
    "WriteReport",
    "channel_plan",
    "check_output",
    "output_paths",
    "probe",
    "read_excerpt",
    "resampled_length",
    "resolve_bits",
    "sample_step",
]
