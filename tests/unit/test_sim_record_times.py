"""Which times of records the simulation accepts."""

from __future__ import annotations

import pytest

from i2core.api import Batch, Kind, Record
from i2core.testing.sim.machine import Machine, Violation
from i2core.testing.sim.record_times import RecordTimes


def one(seq: int, time_ns: int) -> Batch:
    return Batch(seq, [Record(Kind.REMOVE, 0, b"a", time_ns=time_ns)])


def life(state: int) -> Machine:
    machine = Machine("work")
    machine.state = state
    return machine


def test_times_never_go_back_from_life_to_life() -> None:
    times = RecordTimes(wanted=True)
    times.arrive(life(1), one(1, 50))
    times.arrive(life(1), one(2, 50))
    with pytest.raises(Violation, match="record 3 of work has the time 49"):
        times.arrive(life(1), one(3, 49))


def test_records_of_a_life_that_lost_its_power_may_arrive_later() -> None:
    """The clock was set back, and the power cut took the last notes of the catalog."""
    times = RecordTimes(wanted=True)
    times.arrive(life(1), one(1, 50))
    times.arrive(life(1), one(2, 60))
    times.arrive(life(2), one(3, 40))
    with pytest.raises(Violation, match="record 4 of work has the time 39"):
        times.arrive(life(2), one(4, 39))


def test_only_a_rule_that_wants_a_history_has_times() -> None:
    with pytest.raises(Violation):
        RecordTimes(wanted=True).arrive(life(1), one(1, 0))
    with pytest.raises(Violation):
        RecordTimes(wanted=False).arrive(life(1), one(1, 5))
