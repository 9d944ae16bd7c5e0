"""The replica is turned back in place, in random lives with power cuts and a replica that fails."""

from __future__ import annotations

import pytest

from i2core.api import Code, Kind, Record
from i2core.history.plan.step import Change, Restore, Step
from i2core.history.rewind.carrier import Carrier
from i2core.testing.memory_replica import MemoryReplica

from .rewound_lives import live


@pytest.mark.parametrize("first", range(0, 20, 10))
def test_lives_that_are_turned_back(first: int) -> None:
    lives = [live(seed) for seed in range(first, first + 10)]
    assert sum(each.rewinds for each in lives) > 10
    assert sum(each.cuts for each in lives)
    assert sum(each.failures for each in lives)


@pytest.mark.parametrize(
    "record", [Restore(0, b"a", b"7"), Record(Kind.TRUNCATE, 0, b"a", size=1), Record(Kind.RENAME, 0, b"a", b"b")]
)
async def test_a_batch_ends_with_what_cannot_be_carried_out(record: Record | Restore) -> None:
    reported: list[int] = []
    steps = [Step(8, Change(record, 0)), Step(9, Change(Record(Kind.REMOVE, 0, b"c"), 0))]
    done = await Carrier(MemoryReplica(), reported.append).carry(5, steps)
    assert (done.applied_seq, reported) == (5, [5])
    (failure,) = done.failures
    assert (failure.seq, failure.place.path, failure.code) == (5, b"a", Code.CDP_RESTORE_WRITE)
