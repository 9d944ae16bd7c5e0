"""The progress of a batch and its failures so far: kept while the sink waits and retries a record."""

from __future__ import annotations

from collections.abc import Mapping

from i2core.api import Batch, Failure, Record
from i2core.api.present import Identity


class Progress:
    """Of one batch."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.done = 0
        """Number of records that are done."""
        self.blocked = False
        """The next record would replace a directory that must be spared."""
        self.failures: list[Failure] = []
        self.made: dict[int, Identity] = {}
        """As in `Applied`."""

    @property
    def seq(self) -> int:
        """Of the next record."""
        return self._batch.first_seq + self.done

    @property
    def keeps(self) -> Mapping[bytes, int] | None:
        """What the next record must keep; None: the replica has no history."""
        keeps = self._batch.keeps
        return None if keeps is None else keeps[self.done]

    @property
    def ended(self) -> bool:
        """With a history, a record that has failed ends the batch."""
        return self._batch.keeps is not None and bool(self.failures)

    def next(self) -> Record | None:
        """The next record; None after the last."""
        records = self._batch.records
        return records[self.done] if self.done < len(records) and not self.ended else None
