"""Whatever the system clock does, the clock of retention goes on as time passes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from i2core.history.retention.clock import SLEW, SteadyClock

DAY_NS = 86400 * 10**9
BOOT, OTHER = b"one", b"other"


@given(st.lists(st.tuples(st.integers(0, 10 * DAY_NS), st.integers(-(10**19), 10**19), st.booleans())))
def test_it_runs_a_tenth_wrong_at_most(steps: list[tuple[int, int, bool]]) -> None:
    clock, boots, running_ns = SteadyClock.begin(10**18, b"0", 0), 0, 0
    for passed, system_ns, reboots in steps:
        boots, running_ns = (boots + 1, passed) if reboots else (boots, running_ns + passed)
        before, clock = clock, clock.read(system_ns, b"%d" % boots, running_ns)
        known = 0 if reboots else passed
        assert known - known // SLEW <= clock.now_ns - before.now_ns <= known + known // SLEW


def test_a_jump_ahead_wipes_nothing() -> None:
    clock = SteadyClock.begin(0, BOOT, 0)
    for day in range(1, 8):
        clock = clock.read(day * DAY_NS + 365 * DAY_NS, BOOT, day * DAY_NS)
    assert clock.now_ns <= 7 * DAY_NS * 11 // 10
    assert clock.is_wrong
    assert clock.behind_ns > 350 * DAY_NS


def test_a_right_clock_is_met_again() -> None:
    """Two days off: twenty days later all is as if nothing had been."""
    clock = SteadyClock.begin(0, BOOT, 0).read(2 * DAY_NS, OTHER, 0)
    assert (clock.now_ns, clock.is_wrong) == (0, True)
    for day in range(1, 21):
        clock = clock.read((2 + day) * DAY_NS, OTHER, day * DAY_NS)
    assert clock.now_ns == 22 * DAY_NS
    assert not clock.is_wrong


def test_a_clock_that_was_set_back_slows_it_down() -> None:
    clock = SteadyClock.begin(100 * DAY_NS, BOOT, 0)
    clock = clock.read(DAY_NS, BOOT, DAY_NS)
    assert clock.now_ns == 101 * DAY_NS - DAY_NS // SLEW
    assert clock.is_wrong
