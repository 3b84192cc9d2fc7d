"""What is there: presets, weights, and the state of the installation, as tables."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from danna_sep import weights
from danna_sep.cli.failures import OK, UNEXPECTED
from danna_sep.cli.render import json_line, say, table
from danna_sep.errors import MissingWeights, WeightsError


def list_presets() -> None:
    """Name, whether it can be used, what it is; installed separators behind the presets."""
    from danna_sep import plugins
    from danna_sep.presets import PRESETS

    rows = []
    for name, preset in PRESETS.items():
        try:
            for wanted in preset.weights.values():
                weights.find(wanted)
            state = "ready"
        except MissingWeights:
            state = "weights not on this machine"
        except WeightsError:
            state = "weights damaged"
        rows.append((name, state, preset.summary))
    for plugin in plugins.known().values():
        if plugin.name not in PRESETS:  # a preset's name goes first
            rows.append((plugin.name, "installed" if plugin.is_installed else "not installed", plugin.summary))
    table(rows)


def list_weights() -> None:
    """Name, model, size, whose copy, whether it is whole, licence, origin."""
    folders = {result.name: result for result in weights.verify()}
    shipped = weights.shipped_folder()
    rows = [("NAME", "MODEL", "SIZE", "COPY", "STATE", "LICENCE AND ORIGIN")]
    for entry in weights.entries(readable=True):
        result = folders[entry.name]
        copy = "shipped" if result.path.parent == shipped else "own"
        state = "ok" if result.ok else "wrong"
        about = f"{entry.licence}; {entry.origin}" + (f" ({entry.note})" if entry.note else "")
        rows.append((entry.name, entry.model, f"{entry.n_bytes / 1e6:.1f} MB", copy, state, about))
    table(rows)
    weights.entries()  # which says whether the user's own registry is damaged


def show_doctor(out_dir: Path, as_json: bool) -> int:
    """Run all checks and show each; gives the exit code."""
    from danna_sep import doctor

    checks = []
    for check in doctor.checks(out_dir):
        checks.append(check)
        if not as_json:
            say(f"{check.state:<6}  {check.name:<26}  {check.text}")
    broken = [check.name for check in checks if check.state == doctor.BROKEN]
    if as_json:
        json_line({"ok": not broken, "checks": [asdict(check) for check in checks]})
    else:
        say(f"broken: {', '.join(broken)}" if broken else "all that is needed works")
    return UNEXPECTED if broken else OK
