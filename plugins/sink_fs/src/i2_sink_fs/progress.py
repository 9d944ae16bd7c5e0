"""The progress of a batch and its failures so far: kept while the sink waits and retries a record."""

from __future__ import annotations

from i2core.api import Batch, Failure, Record


class Progress:
    """Of one batch."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.done = 0
        """Number of records that are done."""
        self.blocked = False
        """The next record would replace a directory that must be spared."""
        self.failures: list[Failure] = []

    @property
    def seq(self) -> int:
        """Of the next record."""
        return self._batch.first_seq + self.done

    def next(self) -> Record | None:
        """The next record; None after the last."""
        records = self._batch.records
        return records[self.done] if self.done < len(records) else None
