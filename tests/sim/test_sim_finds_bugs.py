"""The simulation finds every planted bug, each within the number of histories that `seeded.BUGS` states."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from i2core.testing.sim.history import play


def _seeded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("seeded", Path(__file__).parent / "seeded.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUGS = _seeded().BUGS


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch, bug: object) -> None:
    """By a history that keeps all promises without it."""
    assert callable(bug)
    with monkeypatch.context() as patch:
        bug(patch)
        found = next((seed for seed in range(BUGS[bug]) if play(seed).violation), None)
    assert found is not None, f"not found in {BUGS[bug]} histories"
    assert not play(found).violation


@pytest.mark.slow
def test_a_thousand_histories() -> None:
    for seed in range(1000, 2000):
        verdict = play(seed)
        assert not verdict.violation, "\n".join([*verdict.plan.lines(), *verdict.trace[-80:], verdict.violation])
