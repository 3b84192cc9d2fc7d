"""Sample rate conversion of a stream, aligned in time and exact in length."""

from __future__ import annotations

from typing import Final

import numpy as np
import soxr  # type: ignore[import-untyped]

from danna_sep.audio.info import Block

_QUALITY: Final = "VHQ"  # images and aliases below 24 bits
_FLUSH_FRAMES: Final = 4096  # zeros given to the filter at a time until its tail has come out


def resampled_length(n_frames: int, source_hz: int, target_hz: int) -> int:
    """Frames at the target rate that cover all of `n_frames` at the source rate (rounded up).

    Going there and back with this length always gives at least `n_frames` again.
    """
    return -(-n_frames * target_hz // source_hz)


class StreamResampler:
    """Converts blocks (channel, time) from one sample rate to another.

    The filter's delay is compensated: output frame k is the signal at k / target_hz seconds. What comes out does not
    depend on how the input is cut into blocks. With equal rates blocks pass through as they are.
    """

    def __init__(self, source_hz: int, target_hz: int, n_channels: int) -> None:
        """Args: rates in Hz, and the number of channels of every block."""
        if source_hz < 1 or target_hz < 1 or n_channels < 1:
            raise ValueError(f"rates and channels must be positive: {source_hz}, {target_hz}, {n_channels}")
        self.source_hz = source_hz
        self.target_hz = target_hz
        self.n_channels = n_channels
        self._n_in = 0
        self._n_out = 0
        self._finished = False
        self._soxr = (
            None
            if source_hz == target_hz
            else soxr.ResampleStream(source_hz, target_hz, n_channels, dtype="float32", quality=_QUALITY)
        )

    def push(self, block: Block) -> Block:
        """Take a block, give what is ready of the output: (channel, time), maybe without frames."""
        if self._finished:
            raise ValueError("push after finish")
        if block.ndim != 2 or block.shape[0] != self.n_channels:
            raise ValueError(f"expected ({self.n_channels} channels, time), got {block.shape}")
        self._n_in += block.shape[1]
        out = self._process(block)
        self._n_out += out.shape[1]
        return out

    def finish(self, n_frames: int | None = None) -> Block:
        """Give the rest of the output.

        Args:
            n_frames: Frames that all output blocks together shall have. Default: `resampled_length` of the input, so
                that nothing of the tail is lost. To come back to an input's own length, give that length.

        Returns:
            Samples (channel, time). Beyond the end of the input the signal is taken to be zero.

        Raises:
            ValueError: More than `n_frames` have been given already.
        """
        if self._finished:
            raise ValueError("finish was called before")
        self._finished = True
        total = resampled_length(self._n_in, self.source_hz, self.target_hz) if n_frames is None else n_frames
        missing = total - self._n_out
        if missing < 0:
            raise ValueError(f"asked for {total} frames in all, but {self._n_out} have been given already")
        tail: list[Block] = []
        n_tail = 0
        zeros = np.zeros((self.n_channels, _FLUSH_FRAMES), dtype=np.float32)
        while n_tail < missing:
            tail.append(self._process(zeros))
            n_tail += tail[-1].shape[1]
        self._soxr = None
        if not tail:
            return np.zeros((self.n_channels, 0), dtype=np.float32)
        return np.concatenate(tail, axis=1)[:, :missing]

    def _process(self, block: Block) -> Block:
        if self._soxr is None or not block.shape[1]:
            return block
        # soxr wants (time, channel), contiguous.
        out: Block = self._soxr.resample_chunk(np.ascontiguousarray(block.T, dtype=np.float32))
        return np.ascontiguousarray(out.T)
