"""The replica is turned back in place, in random lives with power cuts."""

from __future__ import annotations

import pytest

from .rewound_lives import live


@pytest.mark.parametrize("first", range(0, 20, 10))
def test_lives_that_are_turned_back(first: int) -> None:
    lives = [live(seed) for seed in range(first, first + 10)]
    assert sum(each.rewinds for each in lives) > 10
    assert sum(each.cuts for each in lives)
