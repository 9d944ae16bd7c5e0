"""Finds moments by the backup node's clock: what retention counts by, whatever the work node's clock says."""

from __future__ import annotations

import attrs

from i2core.history.index.batches import Batch
from i2core.history.journal.frame import head_of
from i2core.history.model.rows import Moment
from i2core.history.read.log import Log


@attrs.frozen
class Applied:
    """Asks the log; to be used where the log may be."""

    log: Log

    def moment_at(self, time_ns: int, floor: int, last: int) -> Moment:
        """The state at a time of the steady clock, among those from `floor` to `last`. Frames are planned in the order
        of their records, so each look halves what is left."""
        low, high = floor, last
        while low < high:
            middle = (low + high + 1) // 2
            batch = self._batch(middle)
            if batch is None:
                break
            if self.time_ns(batch) <= time_ns:
                low = max(min(batch.last_seq, high), middle)
            else:
                high = max(batch.first_seq - 1, low)
        return self.moment(low)

    def moment(self, seq: int) -> Moment:
        """The moment of a record, with the work node's time. Where the log is gone that is the time of its batch."""
        batch = self._batch(seq)
        if batch is None:
            return Moment(0, seq)
        return Moment((batch.size and self.log.time(seq)) or batch.first_ns, seq)

    def planned_ns(self, seq: int) -> int | None:
        """When the record was planned, by the steady clock; None: its log is gone."""
        batch = self._batch(seq)
        return self.time_ns(batch) if batch is not None and batch.size else None

    def time_ns(self, batch: Batch) -> int:
        """When the batch was planned, by the steady clock."""
        return head_of(self.log.frames.head(batch)).applied_ns

    def _batch(self, seq: int) -> Batch | None:
        return next(self.log.index.batches.before(seq + 1), None)
