"""The promises of the product in a history, compared with what it does.

When a work node receives an ack that records are durable, no power cut may lose them any more. Epochs decide who may
write: a node with an older epoch writes nothing any more. Both are checked for each work node by itself, since each has
its own sequence of seqs.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from i2core.api import Batch, Record
from i2core.rule.backup.service import BackupRuleStatus
from i2core.testing.sim.inode import Inode
from i2core.testing.sim.kernel import Kernel
from i2core.testing.sim.machine import Machine, Violation
from i2core.testing.sim.oracle import Picture, Touched, lost, named, pictures


@attrs.define
class _Row:
    """The seqs of one work node."""

    told: int = 0
    """The highest durable seq that it has received."""
    void: int = 0
    """Durable seqs up to this one belong to a replica that somebody has moved away since."""
    last: int = 0
    """The highest seq that was passed to the sink."""
    open: list[tuple[int, Record, list[Inode]]] = attrs.field(factory=list)
    """Records that were passed to the sink and not reported as durable: seq, record, the files that it names."""


class Promises:
    """All promises about the replicas at `targets`."""

    def __init__(self, kernel: Kernel, targets: list[bytes]) -> None:
        self._kernel = kernel
        self._targets = targets
        self._rows: dict[str, _Row] = {}
        self._owner = 0
        """The epoch of the present owner."""

    def forget(self, known: Iterable[BackupRuleStatus]) -> None:
        """Somebody moved a replica away, with everything that was durable there. Records that were not durable stay so,
        since the other roots of the rule have not moved. `known`: the status of the backup node.

        Everything that the backup node has saved as durable until now is about the directory that is gone. An ack of it
        may still be in flight, and then arrives when the position of the new directory is smaller."""
        for status in known:
            row = self._row(status.peer)
            row.void = max(row.void, status.durable_seq)
        for row in self._rows.values():
            row.void, row.told = max(row.void, row.told), 0

    def _row(self, peer: str) -> _Row:
        return self._rows.setdefault(peer, _Row())

    def told(self, peer: str, durable_seq: int) -> None:
        """The work node of that name received an ack."""
        row = self._row(peer)
        if durable_seq <= row.void:
            return
        row.told = max(row.told, durable_seq)
        row.open = [entry for entry in row.open if entry[0] > row.told]

    def enters(self, known: Iterable[BackupRuleStatus]) -> None:
        """A session begins. `known`: the status of the backup node.

        Raises:
            Violation: the backup node has forgotten something.
        """
        for status in known:
            told = self._row(status.peer).told
            if status.durable_seq < told:
                raise Violation(f"{told} was reported as durable to {status.peer}, and {status.durable_seq} was kept")

    def applies(self, client: Machine, peer: str, batch: Batch) -> None:
        """The sink is about to apply records that came from `client`.

        Raises:
            Violation: another node owns the replica.
        """
        if client.epoch < self._owner:
            raise Violation(f"{client.name} with epoch {client.epoch} writes, and the owner has epoch {self._owner}")
        self._owner = client.epoch
        row = self._row(peer)
        for seq, record in enumerate(batch.records, batch.first_seq):
            # Orphans are removed without a seq: they count as part of the next records.
            number = seq if batch.first_seq > row.last else row.last + 1
            row.open.append((number, record, self._files(record)))
        row.last = max(row.last, batch.last_seq)

    def applied(self, peer: str, batch: Batch) -> None:
        """The sink has applied the records: their names may belong to other files now."""
        row = self._row(peer)
        row.open += [(row.last, record, self._files(record)) for record in batch.records]

    def _files(self, record: Record) -> list[Inode]:
        found = []
        for path in named(record):
            try:
                found.append(self._kernel.find(self._targets[record.root] + b"/" + path, follow=False))
            except OSError:
                continue
        return [inode for inode in found if not inode.is_dir]

    def look(self) -> list[dict[bytes, Picture]]:
        """The present state of the replicas."""
        return [self._pictures(target) for target in self._targets]

    def _pictures(self, target: bytes) -> dict[bytes, Picture]:
        """The objects of a replica; none if it was moved away, or its disk is not mounted."""
        try:
            return pictures(self._kernel.find(target))
        except FileNotFoundError:
            return {}

    def check(self, before: list[dict[bytes, Picture]]) -> None:
        """The power was cut; `before` is the result of `look` at that time.

        Raises:
            Violation: something is lost that was reported as durable.
        """
        found = []
        for root, (was, now) in enumerate(zip(before, self.look(), strict=True)):
            if not any(row.told for row in self._rows.values()):
                was.pop(b"", None)  # created by the backup node a moment ago, and not reported as durable
            touched = Touched()
            for row in self._rows.values():
                for _, record, files in row.open:
                    if record.root == root:
                        touched.add(record, files)
            found += [f"root {root}: {line}" for line in lost(was, now, touched)]
        if found:
            told = {peer: row.told for peer, row in self._rows.items()}
            raise Violation(f"reported as durable up to {told}: " + "; ".join(found))
