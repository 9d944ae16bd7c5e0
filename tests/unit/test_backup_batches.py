"""Batches on the backup node: each record is applied once, none is left out, removals pass the brake and the archive,
and all are acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from i2core.api import Applied, Batch, Channel, Code, Failure, Kind, Place, ProtocolError, Record
from i2core.rule.backup.session.acks import Acknowledger
from i2core.rule.backup.session.applying import RecordApplier
from i2core.rule.backup.session.batches import BatchReceiver, SeqOrder
from i2core.rule.backup.session.mass_delete import MassDeleteGate, names_left
from i2core.rule.backup.session.session_roots import SessionRoots
from i2core.rule.backup.session.unflushed import Unflushed
from i2core.rule.backup.session.writer import ReplicaWriter
from i2core.wire.encoding import encode_records
from i2core.wire.frame import FrameType
from i2core.wire.messages import MOST_SEQ, ROOT_GONE, Ack, BrakeLimits, Hold, parse

from .scripted_sink import ScriptedSink, link, received, replica_at

OFF = BrakeLimits(share=1.0, window_s=60, least=1000)


def records(count: int) -> list[Record]:
    return [Record(Kind.CREATE, 0, b"f%d" % number) for number in range(count)]


# ------------------------------------------------------------------------------------------------ seqs


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(0, 30), st.integers(1, 20))
def test_whatever_a_session_repeats_each_record_is_applied_once(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], applied: int, begins: int
) -> None:
    """The link broke, and the session begins at a batch that may be applied in part."""
    replica = replica_at(tmp_path_factory.mktemp("positions"))
    replica.progress.applied_seq = applied
    order, seq = SeqOrder(replica), begins
    taken: list[int] = []
    for size in sizes:
        first, new = order.take(seq, records(size))
        taken += range(first, first + len(new))
        seq += size
    assert taken == [each for each in range(begins, seq) if each > applied]


@pytest.mark.parametrize("second", [1, 2, 4, 9])
def test_a_gap_and_a_repeat_within_a_session_are_refused(tmp_path: Path, second: int) -> None:
    order = SeqOrder(replica_at(tmp_path))
    assert order.take(1, records(2))[0] == 1
    with pytest.raises(ProtocolError) as refused:
        order.take(second, records(1))
    assert refused.value.code is Code.SEQUENCE


def test_an_empty_batch_declares_the_seqs_below_it_void(tmp_path: Path) -> None:
    order = SeqOrder(replica_at(tmp_path))
    order.take(1, records(2))
    assert order.take(7, []) == (7, [])
    assert order.take(7, records(1))[0] == 7
    with pytest.raises(ProtocolError):
        order.take(3, [])


def test_no_seq_is_beyond_all_that_a_rule_uses(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError):
        SeqOrder(replica_at(tmp_path)).take(MOST_SEQ, records(1))


# ------------------------------------------------------------------------------------------------ a batch and its ack


class Receiving:
    """A receiver of batches over a scripted sink."""

    def __init__(self, directory: Path, channel: Channel = Channel.REPLICATION, archive: bytes = b"") -> None:
        self.sink, self.replica, self.said = ScriptedSink(), replica_at(directory), list[str]()
        self.replica.deletes.brake.limits = OFF
        self.frames, self.peer = link()
        self.unflushed = Unflushed(1 << 30)
        self.roots = SessionRoots(["/target"])
        self.gate = MassDeleteGate(self.frames, self.sink, self.replica, self.roots)
        self.applier = RecordApplier(ReplicaWriter(self.sink, self.unflushed), self.gate, archive)
        acks = Acknowledger(self.frames, self.replica)
        self.batches = BatchReceiver(channel, self.replica, self.roots, self.applier, self.unflushed, acks)

    async def send(self, first_seq: int, sent: Sequence[Record]) -> Ack:
        """The ack of a batch."""
        await self.batches.receive([(first_seq, encode_records(sent))])
        (frame,) = await received(self.peer, 1)
        return parse(frame.payload, Ack)


def fails(*seqs: int) -> Callable[[Batch], Applied]:
    """Makes these records of the batch fail."""

    def answer(batch: Batch) -> Applied:
        failed = []
        for seq in seqs:
            record = batch.records[seq - batch.first_seq]
            failed.append(Failure(seq, Place(record.root, record.path), Code.REPLICATE_FILE, "no"))
        return Applied(batch.last_seq, tuple(failed))

    return answer


async def test_a_batch_is_applied_and_acknowledged(tmp_path: Path) -> None:
    made = Receiving(tmp_path)
    ack = await made.send(1, records(3))
    assert (ack.applied_seq, ack.durable_seq, ack.failures) == (3, 0, [])
    assert (made.replica.progress.applied_seq, made.unflushed.any) == (3, True)
    assert (await made.send(4, [])).applied_seq == 3, "an empty batch is answered as well"
    assert len(made.sink.applied()) == 1


async def test_batches_that_came_together_are_applied_together(tmp_path: Path) -> None:
    made = Receiving(tmp_path)
    made.sink.answers.append(fails(4))
    await made.batches.receive([(1, encode_records(records(3))), (4, encode_records(records(2)))])
    (frame,) = await received(made.peer, 1)
    ack = parse(frame.payload, Ack)
    assert (ack.applied_seq, [failed.seq for failed in ack.failures]) == (5, [4])
    assert [(batch.first_seq, batch.last_seq) for batch in made.sink.applied()] == [(1, 5)]


async def test_a_batch_that_removes_is_applied_alone(tmp_path: Path) -> None:
    """What came before it is not held with it; an empty batch says that seqs are void, so nothing goes beyond it."""
    made = Receiving(tmp_path)
    removes = [Record(Kind.CREATE, 0, b"new"), Record(Kind.REMOVE, 0, b"old")]
    sent = [records(1), records(1), removes, records(1), [], records(1), records(1)]
    encoded, seq = [], 1
    for each in sent:
        seq += 0 if each else 5
        encoded.append((seq, encode_records(each)))
        seq += len(each)
    await made.batches.receive(encoded)
    acks = [parse(frame.payload, Ack).applied_seq for frame in await received(made.peer, 5)]
    assert acks == [2, 4, 5, 5, 12]
    assert [(batch.first_seq, batch.last_seq) for batch in made.sink.applied()] == [(1, 2), (3, 4), (5, 5), (11, 12)]


async def test_a_failed_rename_is_about_both_names(tmp_path: Path) -> None:
    """The source assumes that the old name is gone."""
    made = Receiving(tmp_path)
    made.sink.answers.append(lambda batch: Applied(1, (Failure(1, Place(0, b"new"), Code.REPLICATE_FILE, "no"),)))
    ack = await made.send(1, [Record(Kind.RENAME, 0, b"old", other=b"new")])
    assert [failed.path for failed in ack.failures] == ["new", "old"]


@pytest.mark.parametrize("channel", [Channel.MIRROR, Channel.REPLICATION])
async def test_what_fails_in_a_mirror_is_remembered(tmp_path: Path, channel: Channel) -> None:
    """In live replication, the ledger of the work node knows it."""
    made = Receiving(tmp_path, channel)
    made.sink.answers.append(fails(1))
    await made.send(1, records(2))
    assert made.replica.progress.known == (channel is Channel.REPLICATION)


async def test_no_record_names_a_root_that_the_session_has_not(tmp_path: Path) -> None:
    made = Receiving(tmp_path)
    with pytest.raises(ProtocolError, match="root 1"):
        await made.batches.receive([(1, encode_records([Record(Kind.CREATE, 1, b"f")]))])
    assert made.sink.done == []


# ------------------------------------------------------------------------------------------------ applying


async def test_removed_objects_are_archived_in_order(tmp_path: Path) -> None:
    made = Receiving(tmp_path, archive=b"/archive")
    await made.send(
        1, [*records(2), Record(Kind.REMOVE, 0, b"gone"), *records(1), Record(Kind.REMOVE, 0, b"s", staged=True)]
    )
    assert [name for name, _ in made.sink.done if name != "apply"] == ["set_aside"]
    before, after = made.sink.applied()
    assert (before.first_seq, len(before.records)) == (1, 2)
    assert (after.first_seq, len(after.records)) == (4, 2), "a staging file is no loss"
    assert made.sink.done[1] == ("set_aside", (Place(0, b"gone"), b"/archive"))


async def test_a_directory_in_the_way_is_removed_first_by_a_record_of_this_node(tmp_path: Path) -> None:
    made = Receiving(tmp_path)
    made.sink.answers.append(lambda batch: Applied(1, blocked=True))
    ack = await made.send(1, records(3))
    asked, own, again = made.sink.applied()
    assert (asked.first_seq, len(asked.records)) == (1, 3)
    assert own == Batch(0, [Record(Kind.REMOVE, 0, b"f1")])
    assert (again.first_seq, [record.path for record in again.records]) == (2, [b"f1", b"f2"])
    assert (ack.applied_seq, ack.failures) == (3, [])


async def test_a_record_whose_place_cannot_be_cleared_fails_and_the_others_go_on(tmp_path: Path) -> None:
    made = Receiving(tmp_path)
    made.sink.answers += [lambda batch: Applied(1, blocked=True), fails(0)]
    ack = await made.send(1, records(3))
    assert [failed.seq for failed in ack.failures] == [2]
    assert made.sink.applied()[-1].first_seq == 3


# ------------------------------------------------------------------------------------------------ the brake


async def test_the_loss_of_a_root_is_held_until_it_is_released(tmp_path: Path) -> None:
    made = Receiving(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.applier.apply, Batch(1, [Record(Kind.REMOVE, 0, b"")]))
        (frame,) = await received(made.peer, 1)
        assert parse(frame.payload, Hold) == Hold(on=True, reason=ROOT_GONE)
        await trio.testing.wait_all_tasks_blocked()
        assert made.sink.applied() == []
        assert made.replica.deletes.reason == ROOT_GONE
        assert made.replica.deletes.release()
        (frame,) = await received(made.peer, 1)
    assert (frame.type, parse(frame.payload, Hold).on) == (FrameType.HOLD, False)
    assert len(made.sink.applied()) == 1


async def test_too_many_files_are_held_and_few_are_not(tmp_path: Path) -> None:
    made = Receiving(tmp_path)
    made.replica.deletes.brake.limits = BrakeLimits(share=0.5, window_s=60, least=10)
    made.sink.present, made.sink.lost = 100, 5
    gone = [Record(Kind.REMOVE, 0, b"d%d" % number) for number in range(10)]
    await made.applier.apply(Batch(1, gone[:4]))
    made.sink.present = 80
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.applier.apply, Batch(5, gone))
        (frame,) = await received(made.peer, 1)
        assert parse(frame.payload, Hold).reason == "70 of 100 files would be removed"
        nursery.cancel_scope.cancel()
    assert len(made.sink.applied()) == 1
    assert made.replica.deletes.reason == ""


def test_the_names_that_records_leave_in_a_root() -> None:
    sent = [
        Record(Kind.REMOVE, 0, b"a"),
        Record(Kind.REMOVE, 0, b"b/deep"),
        Record(Kind.REMOVE, 0, b"c", staged=True),
        Record(Kind.RENAME, 0, b"d", other=b"e/deep"),
        Record(Kind.REMOVE, 1, b"b"),
        Record(Kind.WRITE, 0, b"f"),
    ]
    assert names_left(0, [b"a", b"b", b"c", b"d"], sent) == {b"b", b"c", b"e"}
