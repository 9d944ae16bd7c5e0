"""Receives the batches of one session: each record is applied once, none is left out, all are acknowledged.

Batches that arrived together may be applied together: to a replica with a history each call costs a sync of its
journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from i2core.api import Batch, Channel, Code, Failure, Kind, Place, ProtocolError, Record
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.backup.session.acks import Acknowledger
from i2core.rule.backup.session.applying import RecordApplier
from i2core.rule.backup.session.session_roots import SessionRoots
from i2core.rule.backup.session.unflushed import Unflushed
from i2core.wire.encoding import decode_records
from i2core.wire.messages import MOST_SEQ


@attrs.define
class _Waiting:
    """Records that are to be applied together."""

    first_seq: int = 0
    records: list[Record] = attrs.field(factory=list)
    size: int = 0
    """Bytes, encoded."""

    def add(self, first_seq: int, records: Sequence[Record], size: int) -> None:
        """The records of the next batch."""
        self.first_seq = self.first_seq if self.records else first_seq
        self.records += records
        self.size += size


class BatchReceiver:
    """From encoded batches to their acks."""

    def __init__(
        self,
        channel: Channel,
        replica: Replica,
        roots: SessionRoots,
        applier: RecordApplier,
        unflushed: Unflushed,
        acks: Acknowledger,
    ) -> None:
        self._channel = channel
        self._replica = replica
        self._roots = roots
        self._applier = applier
        self._unflushed = unflushed
        self._acks = acks
        self._order = SeqOrder(replica)

    async def receive(self, encoded: Sequence[tuple[int, bytes]]) -> None:
        """Checks the seqs of batches that follow each other, applies their records through the brake, and acknowledges
        them. `encoded`: the first seq of each, and its payload.

        They are applied together, except for one that removes something: what is before it must not be held with it.

        Raises:
            ProtocolError: records are malformed or out of order, or belong to no root of the session.
            StopRule: nothing more can be applied.
        """
        waiting = _Waiting()
        for seq, payload in encoded:
            first_seq, records = self._order.take(seq, decode_records(payload))
            self._roots.check(records)
            alone = not records or any(record.kind is Kind.REMOVE and not record.staged for record in records)
            if alone:
                await self._apply(waiting)
                waiting = _Waiting()
            waiting.add(first_seq, records, len(payload))
            if alone:
                await self._apply(waiting) if records else await self._acks.report()
                waiting = _Waiting()
        await self._apply(waiting)

    async def _apply(self, waiting: _Waiting) -> None:
        first_seq, records = waiting.first_seq, waiting.records
        if not records:
            return
        failures = await self._applier.apply(Batch(first_seq, records))
        if failures and self._channel is Channel.MIRROR:
            self._replica.progress.mark_unknown()
        self._replica.applied(first_seq, records, waiting.size)
        last_seq = first_seq + len(records) - 1
        self._unflushed.note(waiting.size, seq=last_seq)
        failed = [*failures, *_left_behind(failures, first_seq, records)]
        await self._acks.acknowledge(failed, last_seq)


class SeqOrder:
    """Which records are to be applied next."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._next_seq: int | None = None

    def take(self, first_seq: int, records: Sequence[Record]) -> tuple[int, Sequence[Record]]:
        """The new records of the batch, with the seq of the first of them.

        A session may begin above the last applied seq: an earlier session used seqs without sending them. It may begin
        below it, or within a batch: the link broke before the acks arrived. Then records that were applied already are
        skipped. After that, each batch follows the previous one; an empty batch declares the seqs below it void.

        Raises:
            ProtocolError: a batch is missing, or comes twice (code `SEQUENCE`).
        """
        if first_seq + len(records) > MOST_SEQ:
            raise ProtocolError(f"seq {first_seq} is beyond all that a rule ever uses", code=Code.SEQUENCE)
        if self._next_seq is None:
            known = min(len(records), max(0, self._replica.progress.applied_seq + 1 - first_seq))
            if known:
                self._replica.say(Code.DUPLICATE_MESSAGE, f"{known} records were applied before the link broke")
            first_seq, records = first_seq + known, records[known:]
        elif not records and first_seq > self._next_seq:
            self._next_seq = first_seq
        expected = self._next_seq or first_seq
        if first_seq != expected:
            raise ProtocolError(f"expected seq {expected}, got {first_seq}", code=Code.SEQUENCE)
        if records:
            self._next_seq = first_seq + len(records)
        return first_seq, records


def _left_behind(failures: Sequence[Failure], first_seq: int, records: Sequence[Record]) -> Iterator[Failure]:
    """A failure for the old name of each failed rename, since the source assumes that this name is gone."""
    for failure in failures:
        record = records[failure.seq - first_seq]
        if record.kind is Kind.RENAME:
            yield failure._replace(place=Place(record.root, record.path))
