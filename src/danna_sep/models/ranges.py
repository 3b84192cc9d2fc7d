"""Numbers of a configuration, each within its limits."""

from __future__ import annotations

MOST = 2**31
"""More than any size that a network can have."""


def check_ranges(config: object, **limits: tuple[float, float]) -> None:
    """Raise ValueError, naming the first field of a configuration that is outside its limits, which are allowed.

    Where a field is a tuple, all its numbers are held to them.
    """
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if not low <= number <= high:  # also what is no number
                reach = f"at least {low:g}" if high == MOST else f"from {low:g} to {high:g}"
                raise ValueError(f"{name} must be {reach}, not {number!r}")
