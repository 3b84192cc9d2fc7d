"""A model that is trained, with its optimiser and the average of its weights, in a queue of its own on a GPU."""

from __future__ import annotations

import copy
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import FrameType
from typing import NamedTuple

import torch
from aligned import AlignedUNet
from torch import Tensor

from danna_sep import weights
from danna_sep.errors import ConfigError
from danna_sep.loading import WIENER_ITERATIONS
from danna_sep.models import Model, ModelConfig, UNet, build
from danna_sep.training.objective import objective
from danna_sep.training.recipe import Recipe

WARM_UP_STEPS = 150
N_TRIALS = 12
"""Batches by which forms of a computation are compared."""
COMPILING_S = 180
"""Seconds after which a compiler is given up, as soon as it comes back to Python."""
MOST_APART = 0.2
"""Share by which a form's loss and gradient may lie apart from those of the model as it is: dropout and bfloat16."""


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Ends what takes longer by a TimeoutError; in the main thread, and where Python is at work: no call into C++."""

    def end(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not within {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Batch(NamedTuple):
    """Stems (batch, source, channel, time), which combinations of sources are known, and when it was made."""

    stems: Tensor
    known: Tensor
    made: torch.cuda.Event | None


class Trial(NamedTuple):
    """Seconds that the gradients of a batch take, the median of some after a few; the last loss and gradient's norm."""

    batch_s: float
    loss: float
    gradient: float

    def agrees(self, other: Trial) -> bool:
        """Whether both seem to compute the same."""
        pairs = zip(self[1:], other[1:], strict=True)
        return all(abs(mine - others) <= MOST_APART * abs(others) for mine, others in pairs)


@dataclass
class Learner:
    """A model, and what trains it."""

    name: str
    recipe: Recipe
    share: float
    device: torch.device
    begun: weights.WeightsFile | None = None
    step: int = 0
    model: Model | AlignedUNet = field(init=False)
    config: ModelConfig = field(init=False)
    compute: Callable[[Tensor], Tensor] = field(init=False)
    losses: list[Tensor] = field(default_factory=list)
    underway: deque[torch.cuda.Event] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.model = build(self.recipe.model, self.recipe.config)
        self.config = self.model.config
        if self.begun is not None:
            try:
                self.model.load_state_dict(self.begun.entries)
            except RuntimeError:
                raise ConfigError(
                    f"{self.name}: the weights to go on from do not fit the configuration; see --set"
                ) from None
        self.model.to(self.device)
        if self.recipe.model == "unet":
            self.model.to(memory_format=torch.channels_last)
        self._follow(self.model, self.model)
        self.stream = torch.cuda.Stream() if self.device.type == "cuda" else None

    def _follow(self, model: Model | AlignedUNet, compute: Callable[[Tensor], Tensor]) -> None:
        """Train a model from here on, which `compute` computes."""
        self.model, self.compute = model.train(), compute
        self.model.zero_grad()
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.optimiser = torch.optim.Adam(self.model.parameters(), self.recipe.optimiser.lr, fused=True)
        self.parameters = list(self.model.parameters())
        self.pairs = [
            pair
            for pair in zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True)
            if pair[0].is_floating_point()
        ]

    def network(self, heard: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return self.compute(heard)

    def choose_form(self, batch: Batch) -> None:
        """Train a U-Net as it is, aligned, or compiled as well: what takes least time on this machine."""
        if not isinstance(self.model, UNet) or self.model.config.bottleneck != "attention":
            return
        aligned = AlignedUNet(self.model).to(memory_format=torch.channels_last)
        forms: dict[str, tuple[UNet | AlignedUNet, Callable[[Tensor], Tensor]]] = {
            "as it is": (self.model, self.model),
            "aligned": (aligned, aligned),
            "compiled": (aligned, torch.compile(aligned)),
        }
        states = {name: copy.deepcopy(model.state_dict()) for name, (model, _) in forms.items()}
        found: dict[str, Trial] = {}
        for name, (model, compute) in forms.items():
            began = time.monotonic()
            try:
                with at_most(COMPILING_S) if name == "compiled" else nullcontext():
                    self._follow(model, compute)
                    trial = self._try(batch)
            except Exception as error:  # of whatever kind: a compiler's must not end a training that can do without
                if name != "compiled":
                    raise
                print(f"{self.name} cannot be compiled: {error!r:.500}", flush=True)
                continue
            took_s = time.monotonic() - began
            print(f"{self.name} {name}: {trial}; {took_s:.0f} s to find out", flush=True)
            if name == "as it is" or trial.agrees(found["as it is"]):
                found[name] = trial
        best = min(found, key=lambda name: found[name].batch_s)
        forms[best][0].load_state_dict(states[best])  # norms as they were before the trials
        self._follow(*forms[best])

    def _try(self, batch: Batch) -> Trial:
        """Gradients of a batch, computed several times and not used."""
        clocks = []
        for _ in range(N_TRIALS):
            self.model.zero_grad()
            loss = objective(self.network, batch.stems, batch.known, self.recipe.loss, self.config).loss
            loss.backward()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            clocks.append(time.monotonic())
        gradient = float(torch.nn.utils.clip_grad_norm_(self.parameters, math.inf))
        self.model.zero_grad()
        return Trial(median(after - before for before, after in pairwise(clocks[2:])), float(loss.detach()), gradient)

    def learn(self, batch: Batch, done: float) -> None:
        """One step, in this model's own queue, of which no more than two wait there.

        Args:
            batch: Made in another queue.
            done: Share of this model's time that is over.
        """
        if self.stream is None or batch.made is None:
            self._learn(batch, done)
            return
        with torch.cuda.stream(self.stream):
            self.stream.wait_event(batch.made)
            for tensor in (batch.stems, batch.known):
                tensor.record_stream(self.stream)
            self._learn(batch, done)
            self.underway.append(self.stream.record_event())
        if len(self.underway) > 2:
            self.underway.popleft().synchronize()

    def _learn(self, batch: Batch, done: float) -> None:
        rise = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        for settings in self.optimiser.param_groups:
            settings["lr"] = self.recipe.optimiser.lr * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        loss = objective(self.network, batch.stems, batch.known, self.recipe.loss, self.config).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.optimiser.clip_norm or math.inf)
        # A step whose gradient is not finite is left out, without a look at it here, which would wait for the GPU.
        self.optimiser.found_inf = (~torch.isfinite(norm)).float()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1
        decay = min(self.recipe.optimiser.ema, self.step / (self.step + 10))
        means, now = zip(*self.pairs, strict=True)
        torch._foreach_lerp_(list(means), list(now), 1 - decay)
        self.losses.append(loss.detach())

    def write(self, path: Path, notes: Mapping[str, str]) -> None:
        """The averaged weights."""
        entries = self.average.entries() if isinstance(self.average, AlignedUNet) else self.average.state_dict()
        weights.write(
            path,
            model=self.recipe.model,
            config=self.recipe.config,
            entries={name: entry.contiguous().cpu() for name, entry in entries.items()},
            metadata={
                **notes,
                "steps": str(self.step),
                WIENER_ITERATIONS: str(self.recipe.n_wiener_iterations),
            },
            dtype=torch.float16,
        )
