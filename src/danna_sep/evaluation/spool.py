"""Sound that is written once and read more than once, on disk instead of in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Final

import numpy as np
import numpy.typing as npt

from danna_sep.errors import WriteFailed

Samples = npt.NDArray[np.float32]

_BYTES: Final = 4


class Spool:
    """An unnamed file of float32 samples in the system's folder for temporary files. A context manager.

    Args:
        shape: All axes of a block but the last, time, such as (source, channel).

    Attributes:
        n_frames: Frames written so far.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.n_frames = 0
        self._n_rows = int(np.prod(shape))
        self._file = tempfile.TemporaryFile(prefix="danna-sep-")  # noqa: SIM115  (closed by __exit__)

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, block: Samples) -> None:
        """Add a block (*shape, time) at the end.

        Raises:
            WriteFailed: The disk is full.
        """
        rows = np.ascontiguousarray(block.reshape(self._n_rows, -1).T, dtype=np.float32)
        try:
            self._file.seek(self.n_frames * self._n_rows * _BYTES)
            self._file.write(rows.data)
            self._file.flush()
        except OSError as error:
            raise WriteFailed(
                f"{tempfile.gettempdir()}: cannot hold a song's stems ({error.strerror or error}); "
                "free some space, or set TMPDIR to a folder that has more"
            ) from error
        self.n_frames += len(rows)

    def blocks(self, n_frames: int) -> Iterator[Samples]:
        """All that was written, in blocks (*shape, time) of `n_frames`, but for the last."""
        for start in range(0, self.n_frames, n_frames):
            length = min(n_frames, self.n_frames - start)
            self._file.seek(start * self._n_rows * _BYTES)
            rows = np.frombuffer(self._file.read(length * self._n_rows * _BYTES), np.float32)
            yield np.ascontiguousarray(rows.reshape(length, self._n_rows).T).reshape(*self.shape, length)
