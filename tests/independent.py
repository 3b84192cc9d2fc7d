"""museval's measures, without what else its package imports (which looks for ffmpeg)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType


def museval_metrics() -> ModuleType:
    """Museval's module `metrics`, which needs NumPy and SciPy only."""
    package = importlib.util.find_spec("museval")
    assert package is not None
    assert package.origin is not None
    spec = importlib.util.spec_from_file_location("museval_metrics", Path(package.origin).parent / "metrics.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
