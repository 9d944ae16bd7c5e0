"""All records that leave the work node, from when a job has made them until they are durable on the replica.

Two parts keep them. The *outbox* has the batches, so that they can be resent under the same seqs. The *ledger* has the
doubts of each batch, so that its places can be compared when its result is unknown. Both must agree with the status
that users see. So this one object receives each ack and updates the others: "applied up to N" and "durable up to N" are
set nowhere else.

    keep ──▶ outbox (memory, then spool) ──sent──▶ acknowledged: applied ──▶ acknowledged: durable, forgotten
       └───▶ ledger (its doubts)
"""

from __future__ import annotations

from i2core.rule.catalog.catalog import Catalog
from i2core.rule.catalog.rows import Doubt
from i2core.rule.life.status import RuleStatus
from i2core.rule.outgoing.ledger import Doubts, Ledger, without_places
from i2core.rule.outgoing.outbox import Outbox
from i2core.wire.batch import EncodedBatch, SeqCounter
from i2core.wire.messages import Welcome


class Outgoing:
    """The batches of one rule that are not durable yet, and how far the replica is. For one task at a time; `after`
    and `clear` may be called from a worker thread."""

    def __init__(self, seqs: SeqCounter, outbox: Outbox, status: RuleStatus) -> None:
        self.seqs = seqs
        self.outbox = outbox
        self.ledger = Ledger()
        self._status = status

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest change happened whose records are not durable."""
        return self.ledger.oldest_ns

    @property
    def durable_seq(self) -> int:
        """The highest seq that the backup node has ever reported as durable."""
        return self.ledger.durable_seq

    @property
    def answered_seq(self) -> int:
        """All records up to this seq are applied, and every failure among them was reported."""
        return self.ledger.answered_seq

    def keep(self, batch: EncodedBatch, since_ns: int, doubts: Doubts) -> None:
        """Station 5: a batch is kept before it is sent. If it were sent first and the link broke in the middle, its
        records might be applied or not, and nothing here could resend them or would know what to compare."""
        self.outbox.put(batch, since_ns)
        self.ledger.add(batch.last_seq, since_ns, doubts, kept=True)

    def sent_unkept(self, last_seq: int, since_ns: int, doubts: Doubts) -> None:
        """A compare has sent records up to `last_seq`. The outbox does not have them: they cannot be resent, only
        compared again."""
        self.ledger.add(last_seq, since_ns, doubts, kept=False)

    def acknowledged(self, applied_seq: int, durable_seq: int) -> None:
        """All records up to `applied_seq` are applied, and each failure was reported. All records up to `durable_seq`
        would survive a power cut of the backup node, and are not needed here any more."""
        self._status.applied_seq = max(self._status.applied_seq, applied_seq)
        self.ledger.answered(applied_seq)
        self._durable(durable_seq)

    def _durable(self, durable_seq: int) -> None:
        self._shows_durable(durable_seq)
        self.ledger.durable(durable_seq)
        self.outbox.durable(durable_seq)

    def welcomed(self, durable_seq: int, *, first: bool) -> None:
        """Shows the durable seq of a welcome in the status at once, even if this run sends nothing. Batches are removed
        only by `resume`, which first needs the doubts of each. `first`: no other session is open, so the welcome counts
        for what an earlier run or session showed: the replica may have been lost since."""
        if first:
            self._status.durable_seq = durable_seq
        self._shows_durable(durable_seq)

    def _shows_durable(self, durable_seq: int) -> None:
        self._status.durable_seq = max(self._status.durable_seq, durable_seq)

    def resume(self, welcome: Welcome) -> dict[Doubt, None]:
        """A new session begins at the seq of `welcome`. Returns what is unverified: the places of records that may or
        may not have been applied, or that were applied with failures whose report was lost."""
        doubts = self.ledger.resume(welcome.applied_seq, exact=welcome.exact)
        # Its last ack may have been lost with its connection.
        self._durable(welcome.durable_seq)
        return doubts

    def lost(self, durable_seq: int) -> None:
        """The backup node has lost durable records: only those up to `durable_seq` are left, and the whole replica is
        compared."""
        self.ledger.lost(durable_seq)
        self._status.durable_seq = durable_seq

    def restore(self, catalog: Catalog) -> list[Doubt]:
        """Loads the batches that an earlier run left in the spool. Returns what else is unverified.

        Raises:
            OSError: the spool cannot be read.
        """
        doubts = catalog.doubts.by_seq()
        self.ledger.durable_seq = catalog.memory.now.durable_seq
        self._shows_durable(self.ledger.durable_seq)
        for restored in self.outbox.open():
            about = without_places(doubts.pop(restored.last_seq, ()))
            self.ledger.add(restored.last_seq, restored.since_ns, about, kept=True)
            self.seqs.next = max(self.seqs.next, restored.last_seq + 1)
        return [each for some in doubts.values() for each in some]

    def clear(self) -> None:
        """Removes what an earlier run left, since everything is compared.

        Raises:
            OSError: the spool cannot be cleared.
        """
        self.outbox.clear()
        self.ledger.clear()
