"""Random histories against full copies: every moment that can be had reads as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .lives import Lived, live
from .planted import BUGS

ROOT = Path(__file__).resolve().parents[3]


def _live(first: int, count: int) -> Lived:
    lives = [live(seed) for seed in range(first, first + count)]
    return Lived(*map(sum, zip(*lives, strict=True)))


def test_every_moment_reads_as_it_was() -> None:
    """Fifty lives: records of all kinds, failures, power cuts, merges, turning back."""
    lived = _live(0, 50)
    assert lived.moments >= 1000
    assert lived.cuts >= 50


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 2000, 100))
def test_every_moment_reads_as_it_was_in_many_lives(first: int) -> None:
    _live(first, 100)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_can_still_be_planted(name: str) -> None:
    bug = BUGS[name]
    source = ROOT / "i2core" / "history" / (bug.module.replace(".", "/") + ".py")
    assert source.read_text().count(bug.right) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    command = [sys.executable, "-m", "tests.unit.history.planted", name, str(BUGS[name].seed), "1"]
    done = subprocess.run(  # noqa: S603 (our own interpreter)
        command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT
    )
    assert done.returncode != 0, f"nothing finds that {name}"
    assert f"seed {BUGS[name].seed}" in done.stderr, done.stderr
