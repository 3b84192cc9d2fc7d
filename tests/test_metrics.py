"""Measures of quality."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fill import stems

from danna_sep.evaluation.gram import Gram
from danna_sep.evaluation.metrics import is_silent, mdx_sdr_db

GOLDEN = json.loads((Path(__file__).parent / "reference" / "losses.json").read_text())


def test_mdx_sdr_is_the_challenges() -> None:
    reference, estimate = torch.from_numpy(stems(1, 2, 1.0)), torch.from_numpy(stems(501, 2, 1.0))
    assert mdx_sdr_db(reference, estimate).flatten().tolist() == pytest.approx(GOLDEN["mdx_sdr_db"], rel=1e-4)


def test_mdx_sdr_in_closed_form() -> None:
    """Half of the signal is 6 dB; silence for silence is 0 dB."""
    signal = torch.randn(4, 2, 44100)
    assert mdx_sdr_db(signal, signal / 2).tolist() == pytest.approx([20 * torch.log10(torch.tensor(2.0)).item()] * 4)
    assert mdx_sdr_db(torch.zeros(4, 2, 9), torch.zeros(4, 2, 9)).tolist() == [0] * 4


def test_one_rule_says_what_is_silent() -> None:
    """Full scale is a mean square of 1; blends must be fitted on what figures count, and on nothing else."""
    for level_db, silent in ((-59.9, False), (-60.1, True), (-102, True)):
        reference = torch.full((2, 1000), 10 ** (level_db / 20), dtype=torch.float64)
        assert is_silent(float(reference.square().sum()), reference.numel()) is silent
        gram = Gram("song", "vocals", ("a",))
        gram.add(reference[None].numpy(), reference.numpy())
        assert gram.silent is silent
    assert is_silent(0, 0)
