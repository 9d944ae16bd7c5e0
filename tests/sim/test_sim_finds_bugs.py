"""The simulation finds every planted bug, each within the histories that `seeded.BUGS` states."""

from __future__ import annotations

import pytest

from i2core.testing.sim.history import play

from .seeded import BUGS
from .seeded_history import HISTORY_BUGS

ALL = BUGS | HISTORY_BUGS


@pytest.mark.parametrize(
    "bug",
    [pytest.param(bug, marks=() if hunt.quick else pytest.mark.slow) for bug, hunt in ALL.items()],
    ids=[bug.__name__ for bug in ALL],
)
def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch, bug: object) -> None:
    """By a history that keeps all promises without the bug."""
    assert callable(bug)
    hunt = ALL[bug]
    with monkeypatch.context() as patch:
        bug(patch)
        found = next((seed for seed in hunt.seeds() if _shows(seed, crash=hunt.crash)), None)
    assert found is not None, f"not found in {hunt.most} histories"
    verdict = play(found)
    assert not verdict.violation, f"seed {found} without it: {verdict.violation}"


def _shows(seed: int, *, crash: bool) -> bool:
    violation = play(seed).violation
    return bool(violation) and (crash or not violation.startswith("crashed: "))


@pytest.mark.slow
@pytest.mark.parametrize(
    "first", [1000, *(pytest.param(first, marks=pytest.mark.hunt) for first in range(1200, 2000, 200))]
)
def test_a_thousand_histories(first: int) -> None:
    for seed in range(first, first + 200):
        verdict = play(seed)
        assert not verdict.violation, "\n".join([*verdict.plan.lines(), *verdict.trace[-80:], verdict.violation])
