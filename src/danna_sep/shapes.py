"""Array shapes by their axes, written in signatures and checked by the tests' import hook.

Axes: batch, source, channel, time (samples), bin (frequency), frame. `*batch` stands for any number of
leading axes, none included.
"""

from __future__ import annotations

from typing import TypeAlias

from jaxtyping import Complex, Float, Real
from torch import Tensor

Mixture: TypeAlias = Float[Tensor, "*batch channel time"]
Stems: TypeAlias = Float[Tensor, "*batch source channel time"]
Spec: TypeAlias = Complex[Tensor, "*batch channel bin frame"]
StemSpecs: TypeAlias = Complex[Tensor, "*batch source channel bin frame"]
Magnitude: TypeAlias = Float[Tensor, "*batch channel bin frame"]
StemMagnitudes: TypeAlias = Float[Tensor, "*batch source channel bin frame"]
Features: TypeAlias = Float[Tensor, "batch _feature _bin _frame"]
"""What flows inside a 2-D network; a layer may change all axes but the first."""
FramedFeatures: TypeAlias = Real[Tensor, "batch _feature _frame _bin"]
"""The same where frames come in parts; or whole numbers of steps, see `models/steps.py`."""
Sequence: TypeAlias = Float[Tensor, "batch _feature _time"]
"""What flows inside a 1-D network; likewise."""
