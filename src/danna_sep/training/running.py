"""A training under way, step by step, and how it runs."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from torch.utils.data import DataLoader

from danna_sep import workers
from danna_sep.errors import Cancelled, TrainingFailed
from danna_sep.songs import Song
from danna_sep.training import run_folder
from danna_sep.training.checkpoint import save_state
from danna_sep.training.epoch_end import scores_on
from danna_sep.training.events import Stepped, Validated
from danna_sep.training.excerpts import Excerpt, ExcerptDataset, ResumableSampler
from danna_sep.training.learner import Learner
from danna_sep.training.processes import any_process
from danna_sep.training.progress import Progress
from danna_sep.training.schedule import learning_rate


@dataclass(frozen=True)
class Options:
    """How a training runs; none of it changes its result, but for `seed`, and `device` by rounding.

    Attributes:
        seed: Of weights, batches, augmentation and dropout.
        device: "auto", "cpu", "cuda" (all GPUs that it sees) or "mps".
        n_workers: Processes that read excerpts, for each process that trains; 0: itself.
        save_every_s: Seconds from state to state; also after every epoch.
        stop_after_s: Save and stop after so long; None: at the end.
    """

    seed: int = 0
    device: str = "auto"
    n_workers: int = 2
    save_every_s: float = 300.0
    stop_after_s: float | None = None


class Running:
    """A training under way: epoch by epoch, saved where it can go on.

    Args:
        folder: The run's.
        options: How it runs.
        learner: What is taught.
        excerpts: An epoch's.
        progress: Where it is; kept up to date.
        cancelled: Asked before every step.
    """

    def __init__(
        self,
        folder: Path,
        options: Options,
        learner: Learner,
        excerpts: ExcerptDataset,
        progress: Progress,
        cancelled: Callable[[], bool],
    ) -> None:
        self._folder, self._options, self.learner, self._excerpts = folder, options, learner, excerpts
        self.progress, self._cancelled = progress, cancelled
        self._recipe, self._accelerator = learner.recipe, learner.accelerator
        self._n_batches = len(excerpts) // self._recipe.optimiser.batch_size
        self._accumulate = min(self._recipe.optimiser.accumulate, self._n_batches)
        self._began = self._saved = time.monotonic()
        self._waiting_s = self._trained_s = 0.0

    def epoch(self) -> Iterator[Stepped]:
        """The rest of this epoch, step by step.

        Raises:
            TrainingFailed: A loss or a gradient is not finite.
            Cancelled: The state is saved.
        """
        recipe, progress, batch_size = self._recipe, self.progress, self._recipe.optimiser.batch_size
        n_steps = recipe.epochs * -(-self._n_batches // self._accumulate)
        batches = self._batches()
        self.learner.trained.model.train(not recipe.optimiser.still)
        while progress.batch < self._n_batches:
            if any_process(self._cancelled(), self._accelerator):
                self.save()
                raise Cancelled(f"{self._folder}: stopped; the same command goes on from here")
            n_in_step = min(self._accumulate, self._n_batches - progress.batch)
            losses = []
            for place in range(n_in_step):
                asked = time.monotonic()
                batch, numbers = next(batches)
                self._waiting_s += time.monotonic() - asked
                seed = _mix(self._options.seed, progress.epoch, progress.batch, self._accelerator.process_index)
                is_last = place + 1 == n_in_step
                losses.append(self.learner.learn(batch, seed, n_in_step=n_in_step, is_last=is_last))
                if not math.isfinite(losses[-1]):
                    raise self._not_finite("loss", numbers)
                progress.batch += 1
                progress.loss_sum += losses[-1]
                self._trained_s += batch_size * recipe.data.excerpt_s
            lr = learning_rate(recipe, progress.epoch, progress.step, n_steps, progress.plateau)
            if not self.learner.step(lr, progress.step):
                raise self._not_finite("gradient", numbers)
            progress.step += 1
            spent_s = time.monotonic() - self._began
            yield Stepped(
                progress.epoch,
                recipe.epochs,
                progress.batch,
                self._n_batches,
                progress.step,
                sum(losses) / n_in_step,
                lr,
                self._trained_s / spent_s,
                self._waiting_s / spent_s,
            )
            if time.monotonic() - self._saved > self._options.save_every_s:
                self.save()

    def validate(self, songs: Sequence[Song]) -> Validated:
        """The epoch's scores, of which the learning rate and an early end hear: once at the end of each."""
        progress = self.progress
        scores = scores_on(self._recipe, self._accelerator, self.learner.judged, songs)
        best_db = progress.plateau.best_sdr_db
        is_best = best_db is None or scores.mean_db > best_db
        progress.plateau = progress.plateau.after(progress.epoch, scores.mean_db, self._recipe.schedule.patience)
        return Validated(progress.epoch, progress.loss_sum / self._n_batches, scores, is_best)

    def save(self) -> None:
        """Write all that going on from here needs."""
        scaler = self._accelerator.scaler
        self.progress.scaler = None if scaler is None else scaler.state_dict()
        if self._accelerator.is_main_process:
            save_state(self._folder / run_folder.STATE, self.learner.trained, asdict(self.progress))
        self._saved = time.monotonic()

    def time_is_up(self) -> bool:
        """Whether any process has been running for as long as it may."""
        stop_after_s = self._options.stop_after_s
        return stop_after_s is not None and any_process(
            time.monotonic() - self._began > stop_after_s, self._accelerator
        )

    def _batches(self) -> Iterator[tuple[Excerpt, list[int]]]:
        """This process' batches of what is left of the epoch, and the numbers of their excerpts."""
        n_processes, batch_size = self._accelerator.num_processes, self._recipe.optimiser.batch_size
        sampler = ResumableSampler(
            len(self._excerpts),
            seed=self._options.seed,
            epoch=self.progress.epoch,
            n_done=self.progress.batch * batch_size,
            rank=self._accelerator.process_index,
            world_size=n_processes,
        )
        numbers = iter(sampler)
        loader = DataLoader(
            self._excerpts,
            batch_size // n_processes,
            sampler=sampler,
            num_workers=self._options.n_workers,
            drop_last=True,
            worker_init_fn=_leave_signals_to_the_trainer,
            pin_memory=self._accelerator.device.type == "cuda",
        )
        for batch in loader:
            yield Excerpt(*batch), list(islice(numbers, batch_size // n_processes))

    def _not_finite(self, what: str, excerpts: list[int]) -> TrainingFailed:
        return TrainingFailed(
            f"{self._folder}: the {what} is not finite in epoch {self.progress.epoch}, batch {self.progress.batch} "
            f"(excerpts {', '.join(map(str, excerpts))}); try a lower optimiser.lr or optimiser.clip_norm"
        )


@contextmanager
def lost_readers_told(folder: Path, cancelled: Callable[[], bool]) -> Iterator[None]:
    """What is raised, wherever the program just is, when a process that reads songs has died: in our words.

    PyTorch says so, or what the process had sent cannot be fetched from it.

    Raises:
        Cancelled: A stop was asked for, of which the process died, too; there is no time to save the state.
        TrainingFailed: Else.
    """
    try:
        yield
    except (RuntimeError, ConnectionResetError, ConnectionRefusedError, EOFError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker"):
            raise
        if cancelled():
            raise Cancelled(
                f"{folder}: stopped; the same command goes on from the state that was saved last"
            ) from error
        raise TrainingFailed(
            f"{folder}: a process that reads songs was ended from outside, perhaps for lack of memory; try fewer "
            "--workers; the same command goes on from the state that was saved last"
        ) from error


def _leave_signals_to_the_trainer(_: int) -> None:
    """For the processes that read: what all of them get, by Ctrl-C or from a batch system, is meant for their parent.

    It ends them when it is done, by SIGTERM if need be; where it is killed, they notice that within seconds. Where none
    tells who sent a SIGTERM they die of any; see `lost_readers_told`.
    """
    workers.leave_the_terminal_to_the_parent()
    if sys.platform == "linux":  # others do not tell who sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_if_the_parent_says_so, daemon=True).start()


def _end_if_the_parent_says_so() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _mix(*numbers: int) -> int:
    """One seed out of several numbers, different for different ones."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 1_000_003 + number + 0x9E3779B9) % 2**63
    return mixed
