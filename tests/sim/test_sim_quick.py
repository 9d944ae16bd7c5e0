"""Some histories of the simulation, and that a seed is one history."""

from __future__ import annotations

import pytest

from i2core.testing.sim.history import play


def test_a_seed_is_one_history() -> None:
    first, second = play(3), play(3)
    assert first.trace == second.trace
    assert first.trace
    assert first.steps == second.steps


@pytest.mark.parametrize("first", range(1_000_000, 1_000_010, 5))
def test_histories_without_accidents_end_well(first: int) -> None:
    for seed in range(first, first + 5):
        verdict = play(seed)
        if all(step.what == "work" for step in verdict.plan.steps):
            assert not verdict.violation, "\n".join([*verdict.plan.lines(), *verdict.trace, verdict.violation])
