"""The outbox: in order, memory first, then disk; full when both are full."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from i2core.rule.life.status import RuleStatus
from i2core.rule.outgoing import outbox as outbox_module
from i2core.rule.outgoing import spool as spool_module
from i2core.rule.outgoing.outbox import Outbox
from i2core.rule.outgoing.outgoing import Outgoing
from i2core.rule.outgoing.spool import Quota, Spool
from i2core.wire.batch import EncodedBatch, SeqCounter

KIB = 1024


def sealed(seq: int) -> EncodedBatch:
    """A batch of 1 KiB."""
    return EncodedBatch(seq, seq, bytes([seq]) * KIB)


def drained(outbox: Outbox, seq: int = 0) -> list[int]:
    """The seqs of all batches that would be sent."""
    found = []
    while (batch := outbox.after(seq)) is not None:
        assert batch == sealed(batch.first_seq)
        found.append(batch.first_seq)
        seq = batch.last_seq
    return found


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "ROOM_BYTES", KIB)
    monkeypatch.setattr(spool_module, "FREE_BYTES", 0)


def test_batches_that_do_not_fit_in_memory_are_spooled_in_order(tmp_path: Path) -> None:
    memory = Quota(3 * KIB)
    outbox = Outbox(memory, Spool(tmp_path, Quota(1 << 30)))
    list(outbox.open())
    for seq in range(1, 9):
        outbox.put(sealed(seq), 0)
    assert memory.used == 3 * KIB
    assert outbox.spool_bytes > 5 * KIB
    assert drained(outbox) == list(range(1, 9))
    assert drained(outbox, 6) == [7, 8]
    outbox.durable(3)
    # Memory is free again, but what is on disk comes first.
    outbox.put(sealed(9), 0)
    assert memory.used == 0
    outbox.durable(9)
    assert (outbox.size, outbox.spool_bytes, list(tmp_path.iterdir())) == (0, 0, [])


async def test_it_is_full_when_both_are_used_up(tmp_path: Path) -> None:
    outbox = Outbox(Quota(2 * KIB), Spool(tmp_path, Quota(3 * KIB)))
    list(outbox.open())
    seq = 0
    while outbox.has_room:
        seq += 1
        outbox.put(sealed(seq), 0)
    assert 3 <= seq <= 5
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outbox.wait_for_room)
            await trio.testing.wait_all_tasks_blocked()
            outbox.durable(seq)
    assert outbox.has_room


def test_everything_survives_an_orderly_end(tmp_path: Path) -> None:
    memory = Quota(2 * KIB)
    outbox = Outbox(memory, Spool(tmp_path, Quota(1 << 30)))
    list(outbox.open())
    for seq in range(1, 6):
        outbox.put(sealed(seq), 100 + seq)
    outbox.close()
    assert memory.used == 0
    again = Outbox(Quota(0), Spool(tmp_path, Quota(1 << 30)))
    assert [(kept.last_seq, kept.since_ns) for kept in again.open()] == [(seq, 100 + seq) for seq in range(1, 6)]
    assert drained(again) == [1, 2, 3, 4, 5]


def test_clear_removes_what_an_earlier_run_left(tmp_path: Path) -> None:
    outbox = Outbox(Quota(0), Spool(tmp_path, Quota(1 << 30)))
    list(outbox.open())
    outbox.put(sealed(1), 0)
    outbox.close()
    Outbox(Quota(0), Spool(tmp_path, Quota(1 << 30))).clear()
    assert list(tmp_path.iterdir()) == []


def test_without_a_spool_it_is_all_in_memory() -> None:
    outbox = Outbox(Quota(2 * KIB), None)
    outbox.put(sealed(1), 0)
    outbox.put(sealed(2), 0)
    assert not outbox.has_room
    assert drained(outbox) == [1, 2]
    outbox.durable(1)
    assert outbox.has_room


def test_the_first_welcome_says_what_is_durable_whatever_was_shown_before() -> None:
    status = RuleStatus(name="data1", seq=9, durable_seq=9)
    outgoing = Outgoing(SeqCounter(), Outbox(Quota(KIB), None), status)
    outgoing.welcomed(4, first=True)
    assert status.durable_seq == 4
    outgoing.acknowledged(6, 6)
    outgoing.welcomed(5, first=False)
    assert status.durable_seq == 6
