"""What the simulation takes for a promise of the backup node."""

from __future__ import annotations

import pytest

from i2core.rule.backup.service import BackupRuleStatus
from i2core.rule.life.status import Received
from i2core.testing.sim.disk import Disk
from i2core.testing.sim.kernel import Kernel
from i2core.testing.sim.machine import Violation
from i2core.testing.sim.promises import Promises


def saved(durable_seq: int) -> BackupRuleStatus:
    """The status of a backup node that has saved this position."""
    return BackupRuleStatus(
        name="r",
        peer="work",
        applied_seq=durable_seq,
        durable_seq=durable_seq,
        applied_records=0,
        applied_bytes=0,
        state=Received.WAITING,
        held_reason="",
        turned_back="",
        fault=None,
        orphans=0,
    )


@pytest.fixture
def promises() -> Promises:
    return Promises(Kernel(Disk(1, lambda: 0)), [])


def test_what_was_reported_must_be_kept(promises: Promises) -> None:
    promises.told("work", 4)
    with pytest.raises(Violation, match="4 was reported as durable to work, and 3 was kept"):
        promises.enters([saved(3)])


def test_an_ack_of_a_replica_that_was_moved_away_may_arrive_later(promises: Promises) -> None:
    """28 was saved as durable, and its ack was in flight when somebody moved the replica away."""
    promises.told("work", 4)
    promises.forget([saved(28)])
    promises.told("work", 28)
    promises.enters([saved(0)])
    promises.told("work", 29)
    with pytest.raises(Violation, match="29 was reported"):
        promises.enters([saved(28)])
