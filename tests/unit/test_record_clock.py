"""The time of records never goes back: not with the system clock, and not between runs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from i2core.api import Kind, Record
from i2core.rule.outgoing import record_clock
from i2core.rule.outgoing.record_clock import BEHIND_NS, RecordClock
from i2core.wire.batch import SeqCounter
from i2core.wire.encoding import decode_records

SECOND = 10**9


class Told:
    """A clock over a system clock that the test sets; what it notes and reports."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.system_ns = 1_700_000_000 * SECOND
        self.noted: list[int] = []
        self.behind: list[int] = []
        patch.setattr(record_clock, "time", SimpleNamespace(time_ns=lambda: self.system_ns))
        self.clock = RecordClock(self.behind.append)
        self.clock.begin(0, self.noted.append)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def test_it_is_the_system_clock(told: Told) -> None:
    for passed in (0, 1, SECOND, 3600 * SECOND):
        told.system_ns += passed
        assert told.clock.now() == told.system_ns == told.noted[-1]
    assert told.behind == []


def test_it_stands_still_until_the_system_clock_has_passed_it(told: Told) -> None:
    before = told.clock.now()
    told.system_ns -= 3600 * SECOND
    for _ in range(3):
        told.system_ns += 1000 * SECOND
        assert told.clock.now() == before
    told.system_ns = before + 1
    assert told.clock.now() == before + 1


def test_a_clock_that_was_set_back_is_reported_once(told: Told) -> None:
    before = told.clock.now()
    told.system_ns = before - BEHIND_NS  # as a time server may set it
    told.clock.now()
    assert told.behind == []
    for _ in range(2):
        told.system_ns -= 1
        told.clock.now()
    assert told.behind == [before]
    told.system_ns = before + SECOND
    again = told.clock.now()
    told.system_ns -= 60 * SECOND
    told.clock.now()
    assert told.behind == [before, again]


def test_it_goes_on_where_the_last_run_ended(told: Told) -> None:
    noted = told.system_ns + 5 * SECOND
    told.clock.begin(noted, told.noted.append)
    assert told.clock.now() == noted
    anew: list[int] = []
    told.clock.begin(0, anew.append)  # a run that has lost its catalog, in the same process
    assert anew == [noted], "and that may be killed before its first record"
    assert told.clock.now() == noted


def test_records_that_are_numbered_together_have_one_time() -> None:
    times = iter(range(100, 200))
    seqs = SeqCounter(7, lambda: next(times))
    made = [Record(Kind.MKDIR, 0, b"d%d" % index, time_ns=5) for index in range(3)]
    (first,), (second,) = seqs.seal(made), seqs.seal(made[:1])
    assert [record.time_ns for record in decode_records(first.raw)] == [100] * 3
    assert [record.time_ns for record in decode_records(second.raw)] == [101]
    assert seqs.seal([]) == []
    assert next(times) == 102


def test_without_a_clock_records_have_no_time() -> None:
    (batch,) = SeqCounter().seal([Record(Kind.MKDIR, 0, b"d", time_ns=5)])
    assert [record.time_ns for record in decode_records(batch.raw)] == [0]
