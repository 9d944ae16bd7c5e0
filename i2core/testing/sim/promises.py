"""What the product has promised in a history, held against what it does.

A work node is told that records are durable: from then on no power cut may take them. Who has the right to write is
told by epochs: an older one writes nothing any more. Both are followed node by node, as each has its own row of seqs.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from i2core.api import Batch, Record
from i2core.rule.backup.service import BackupRuleStatus
from i2core.testing.sim.disk import Inode
from i2core.testing.sim.kernel import Kernel
from i2core.testing.sim.machine import Machine, Violation
from i2core.testing.sim.oracle import Picture, Touched, lost, named, pictures


@attrs.define
class _Row:
    """One node's row of seqs."""

    told: int = 0
    """The highest durable seq that it was told."""
    last: int = 0
    """The highest that the sink was given."""
    open: list[tuple[int, Record, list[Inode]]] = attrs.field(factory=list)
    """What the sink was given and is not told durable: seq, record, the files it names."""


class Promises:
    """All promises about the replicas at `targets`."""

    def __init__(self, kernel: Kernel, targets: list[bytes]) -> None:
        self._kernel = kernel
        self._targets = targets
        self._rows: dict[str, _Row] = {}
        self._owner = 0
        """The epoch of who writes."""

    def _row(self, peer: str) -> _Row:
        return self._rows.setdefault(peer, _Row())

    def told(self, peer: str, durable_seq: int) -> None:
        """The work node of that name heard an ack."""
        row = self._row(peer)
        row.told = max(row.told, durable_seq)
        row.open = [entry for entry in row.open if entry[0] > row.told]

    def enters(self, known: Iterable[BackupRuleStatus]) -> None:
        """A session begins. `known`: what the backup node says of itself.

        Raises:
            Violation: it has forgotten something.
        """
        for status in known:
            told = self._row(status.peer).told
            if status.durable_seq < told:
                raise Violation(f"durable up to {told} was told to {status.peer}, and {status.durable_seq} was kept")

    def applies(self, client: Machine, peer: str, batch: Batch) -> None:
        """The sink is about to apply records that came from `client`.

        Raises:
            Violation: another node owns the replica.
        """
        if client.epoch < self._owner:
            raise Violation(f"{client.name} with epoch {client.epoch} writes, and {self._owner} is the owner's")
        self._owner = client.epoch
        row = self._row(peer)
        for seq, record in enumerate(batch.records, batch.first_seq):
            # Orphans are removed without a seq: they count as part of what comes next.
            number = seq if batch.first_seq > row.last else row.last + 1
            row.open.append((number, record, self._files(record)))
        row.last = max(row.last, batch.last_seq)

    def applied(self, peer: str, batch: Batch) -> None:
        """It has: what the records name may be other files than before."""
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
        """The replicas as they are."""
        return [pictures(self._kernel.find(target)) for target in self._targets]

    def check(self, before: list[dict[bytes, Picture]]) -> None:
        """The power was cut; `before` is what `look` gave then.

        Raises:
            Violation: something is gone that was told to be durable.
        """
        found = []
        for root, (was, now) in enumerate(zip(before, self.look(), strict=True)):
            touched = Touched()
            for row in self._rows.values():
                for _, record, files in row.open:
                    if record.root == root:
                        touched.add(record, files)
            found += [f"root {root}: {line}" for line in lost(was, now, touched)]
        if found:
            told = {peer: row.told for peer, row in self._rows.items()}
            raise Violation(f"told durable up to {told}: " + "; ".join(found))
