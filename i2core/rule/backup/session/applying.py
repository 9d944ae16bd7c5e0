"""Applies the records of a work node as its rule says: through the brake, and archiving removed objects if
configured."""

from __future__ import annotations

from i2core.api import Batch, Failure, Kind, Place, Record
from i2core.rule.backup.replica.brake import pieces
from i2core.rule.backup.session.mass_delete import MassDeleteGate
from i2core.rule.backup.session.writer import ReplicaWriter


class RecordApplier:
    """Applies records in order."""

    def __init__(self, writer: ReplicaWriter, gate: MassDeleteGate, archive: bytes = b"") -> None:
        """`archive`: the directory to which objects are moved that the source removes; empty: they are deleted."""
        self._writer = writer
        self._gate = gate
        self._archive = archive

    async def apply(self, batch: Batch) -> list[Failure]:
        """Applies the batch; waits for a release if it would remove too much. Returns the failures.

        Raises:
            StopRule: as `Sink.apply`.
            LinkError: the link broke while records were held.
        """
        failures: list[Failure] = []
        seq = batch.first_seq
        for piece in pieces(batch.records):
            await self._gate.let_through(piece)
            failures += await self._apply_or_archive(Batch(seq, piece))
            seq += len(piece)
        return failures

    async def _apply_or_archive(self, batch: Batch) -> list[Failure]:
        if not self._archive:
            return await self._apply(batch)
        failures: list[Failure] = []
        start = 0
        for index, record in enumerate(batch.records):
            if record.kind is Kind.REMOVE and not record.staged:
                failures += await self._apply(Batch(batch.first_seq + start, batch.records[start:index]))
                await self._writer.set_aside(Place(record.root, record.path), self._archive)
                start = index + 1
        failures += await self._apply(Batch(batch.first_seq + start, batch.records[start:]))
        return failures

    async def _apply(self, batch: Batch) -> list[Failure]:
        """Applies the batch. A record may replace a directory that is not empty. The sink stops at such a record,
        because the entries of the directory would be removed without having been counted by the brake. So the directory
        is removed first, through the brake, by a record of this node's own."""
        failures: list[Failure] = []
        while True:
            done = await self._writer.apply(batch)
            failures += done.failures
            if not done.blocked:
                return failures
            index = done.applied_seq + 1 - batch.first_seq
            record = batch.records[index]
            in_the_way = Record(Kind.REMOVE, record.root, record.other if record.kind is Kind.RENAME else record.path)
            for failed in await self.apply(Batch(0, [in_the_way])):
                # The record cannot be applied while the directory stays: it fails with the same reason.
                failures.append(failed._replace(seq=batch.first_seq + index))
                index += 1
            batch = Batch(batch.first_seq + index, batch.records[index:])
