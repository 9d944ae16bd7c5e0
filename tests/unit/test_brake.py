"""The mass-delete brake, without clock or disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.rule.backup import brake as brake_module
from i2core.rule.backup.brake import DeleteWindow
from i2core.wire.messages import BrakeLimits


def window(*, share: float = 0.5, window_s: float = 60, least: int = 1000, on: bool = True) -> DeleteWindow:
    """A brake in which nothing was removed yet."""
    return DeleteWindow(BrakeLimits(share=share, window_s=window_s, least=least, on=on))


@pytest.mark.parametrize(
    ("count", "remaining", "held"),
    [
        (999, 999, False),
        (1000, 1000, True),
        (1000, 2000, False),
        (1001, 2000, True),
        (1000, 1999, True),
        (1000, 0, True),
    ],
)
def test_more_than_the_share_of_at_least_so_many(count: int, remaining: int, held: bool) -> None:
    brake = window()
    assert brake.tripped(count, remaining, 0.0) is held
    assert brake.suspicious(count, 0.0) is (count >= 1000)


def test_removals_add_up_within_the_window() -> None:
    brake = window()
    for second in range(5):
        assert not brake.tripped(300, 2000 - 300 * second, second) or second == 3
        if brake.tripped(300, 2000 - 300 * second, second):
            break
        brake.note({(0, b"%d" % second): 300}, second)
    assert brake.removed(5.0) == 900
    assert brake.tripped(101, 1100, 5.0)
    assert not brake.tripped(100, 1100, 5.0)
    assert brake.removed(59.9) == 900
    assert brake.removed(60.0) == 600
    assert brake.removed(62.0) == 0
    assert not brake.tripped(101, 1100, 62.0)


def test_a_release_lets_one_window_through() -> None:
    brake = window()
    brake.note({(0, b"a"): 900}, 0.0)
    assert brake.tripped(1000, 1000, 1.0)
    brake.release(1.0)
    assert brake.removed(1.0) == 0
    assert not brake.tripped(1000, 1000, 60.9)
    assert not brake.emptied(1000, 60.9)
    assert brake.tripped(1000, 1000, 61.0)


def test_what_comes_back_was_not_lost() -> None:
    brake = window()
    brake.note({(0, b"build"): 900, (0, b"old"): 50}, 0.0)
    brake.came_back((0, b"build"))
    brake.came_back((1, b"old"))
    assert brake.removed(1.0) == 50
    brake.note({(0, b"old"): 20}, 2.0)
    assert brake.removed(2.0) == 20
    assert brake.removed(63.0) == 0


def test_removals_beyond_those_kept_by_name_still_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brake_module, "NAMED", 3)
    brake = window()
    brake.note({(0, b"%d" % number): 1 for number in range(10)}, 0.0)
    assert brake.removed(1.0) == 10
    assert brake.removed(60.0) == 0


def test_off_is_off() -> None:
    brake = window(on=False)
    assert not brake.suspicious(10_000, 0.0)
    assert not brake.tripped(10_000, 10_000, 0.0)
    assert not brake.emptied(10_000, 0.0)


def test_a_root_may_lose_its_only_file() -> None:
    brake = window()
    assert not brake.emptied(1, 0.0)
    assert brake.emptied(2, 0.0)
    brake.note({(0, b"a"): 1}, 0.0)
    assert brake.emptied(1, 1.0)
    assert not brake.emptied(1, 61.0)


@given(
    st.integers(1, 5000),
    st.integers(0, 20_000),
    st.integers(0, 3000),
    st.floats(0.01, 1.0),
    st.integers(1, 2000),
)
def test_counting_may_stop_at_enough(count: int, remaining: int, gone: int, share: float, least: int) -> None:
    brake = window(share=share, least=least)
    brake.note({(0, b"a"): gone}, 0.0)
    counted = min(remaining, brake.enough(count, 0.0))
    assert brake.tripped(count, counted, 0.0) == brake.tripped(count, remaining, 0.0)
