"""Everything that Danna-Sep raises on purpose.

    DannaSepError
    ├── AudioError            an input that cannot be separated; says which file, and what to do
    │   ├── UnreadableAudio       no audio in it, or not a format that can be read
    │   ├── MissingExtra          readable only with an optional dependency; says which
    │   ├── UnsupportedChannels   more than two channels and no choice made, or none at all
    │   ├── UnsupportedRate       a sample rate outside 8 to 192 kHz
    │   └── NonFiniteAudio        NaN or infinite samples
    ├── OutputError           results that cannot be written
    │   ├── OutputCollision       two results under one name, or a result over its own input
    │   ├── OutputExists          a file is in the way and overwriting was not asked for
    │   └── WriteFailed           folder not writable, disk full, format limit exceeded
    ├── WeightsError          weights that cannot be used
    │   ├── MissingWeights        not on this machine; says how to get them
    │   ├── CorruptWeights        size or SHA-256 differ from what is recorded
    │   ├── UnknownCheckpoint     not the entries or shapes of any model we know
    │   └── DownloadFailed        the network or the server did not give the file
    ├── SongsError            songs with stems that cannot be used for training or evaluation
    ├── TrainingFailed        a training that cannot go on, such as for a loss that is not finite
    ├── EvaluationError       results of evaluations that cannot be read or compared
    ├── ConfigError           settings that contradict each other or are out of range
    └── Cancelled             the caller asked to stop

The message of each is one line for the person at the keyboard.
"""

from __future__ import annotations


class DannaSepError(Exception):
    """The root: catch this to catch all that Danna-Sep raises on purpose."""


class AudioError(DannaSepError):
    """An input that cannot be separated."""


class UnreadableAudio(AudioError):
    """No audio in the file, or not a format that can be read."""


class MissingExtra(AudioError):
    """Readable only with an optional dependency that is not installed."""


class UnsupportedChannels(AudioError):
    """More than two channels without a choice of what to do with them, or none."""


class UnsupportedRate(AudioError):
    """A sample rate outside 8 to 192 kHz."""


class NonFiniteAudio(AudioError):
    """NaN or infinite samples."""


class OutputError(DannaSepError):
    """Results that cannot be written."""


class OutputCollision(OutputError):
    """Two results under one name, or a result over its own input."""


class OutputExists(OutputError):
    """A file is in the way and overwriting was not asked for."""


class WriteFailed(OutputError):
    """The folder cannot be written, the disk is full, or the format's limit is exceeded."""


class WeightsError(DannaSepError):
    """Weights that cannot be used."""


class MissingWeights(WeightsError):
    """The weights are not on this machine."""


class CorruptWeights(WeightsError):
    """Size or SHA-256 differ from what is recorded."""


class UnknownCheckpoint(WeightsError):
    """Not the entries or shapes of any model we know."""


class DownloadFailed(WeightsError):
    """The network or the server did not give the file."""


class SongsError(DannaSepError):
    """Songs with stems that cannot be used for training or evaluation."""


class TrainingFailed(DannaSepError):
    """A training that cannot go on, such as for a loss that is not finite."""


class EvaluationError(DannaSepError):
    """Results of evaluations that cannot be read or compared."""


class ConfigError(DannaSepError):
    """Settings that contradict each other or are out of range."""


class Cancelled(DannaSepError):
    """The caller asked to stop."""
