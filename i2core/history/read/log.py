"""The log for people: pages by seq or time, what became of one object, and how much changed when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import attrs

from i2core.history.index.batches import Batch, Batches
from i2core.history.index.index import Index
from i2core.history.journal.frame import unpacked_log
from i2core.history.model.rows import LogRecord, Moment

BINS = 200
"""Bars of a histogram; more than a screen can show are of no use."""
_NEWEST = 1 << 62


class Frames(Protocol):
    """Gives payloads of frames; made over the journal."""

    def head(self, batch: Batch) -> bytes:
        """The first `batch.size` bytes of the payload: up to the end of the log."""


class Bin(NamedTuple):
    """Records in [begin_ns, begin of the next bin)."""

    begin_ns: int
    changes: int
    """Records that changed something, to the precision of a batch."""
    losses: int
    """Of these, records that overwrote or removed something."""


@attrs.frozen
class Log:
    """Reads the log. What is older than the oldest batch is not there any more."""

    index: Index
    frames: Frames

    @property
    def _batches(self) -> Batches:
        return self.index.batches

    def _records(self, batch: Batch) -> list[LogRecord]:
        """Without those that were planned in vain because one before them failed; none where the log was given up."""
        if not batch.size:
            return []
        log = unpacked_log(self.frames.head(batch))
        return log[: batch.last_seq - batch.first_seq + 1]

    def before(self, seq: int = _NEWEST) -> Iterator[LogRecord]:
        """Records below `seq`, newest first; a page is the first hundred of them."""
        for batch in self._batches.before(seq):
            for record in reversed(self._records(batch)):
                if record.seq < seq:
                    yield record

    def after(self, seq: int) -> Iterator[LogRecord]:
        """Records above `seq`, oldest first."""
        for batch in self._batches.after(seq):
            for record in self._records(batch):
                if record.seq > seq:
                    yield record

    def moment(self, time_ns: int) -> Moment | None:
        """The last moment at this time of the work node's clock, or before it; None: it is older than the log."""
        batch = self._batches.at(time_ns)
        if batch is None:
            return None
        found = [record for record in self._records(batch) if record.time_ns <= time_ns]
        return Moment(found[-1].time_ns, found[-1].seq) if found else None

    def time(self, seq: int) -> int | None:
        """When the record changed something, by the work node's clock; None: it is older than the log."""
        record = next(self.before(seq + 1), None)
        return record and record.time_ns

    def of_object(self, oid: int, before: int = _NEWEST) -> Iterator[LogRecord]:
        """Records below `before` that changed the object, newest first, whatever its path was then."""
        for frame in self.index.rows.touches(oid, before):
            batch = self._batches.get(frame)
            if batch is None or not batch.size:
                return
            for record in reversed(unpacked_log(self.frames.head(batch), oid)):
                if record.seq < before and record.seq <= batch.last_seq:
                    yield record

    def histogram(self, begin_ns: int, end_ns: int, bins: int = BINS) -> list[Bin]:
        """How many records changed and destroyed something, by time."""
        edges = [begin_ns + (end_ns - begin_ns) * number // bins for number in range(bins + 1)]
        counts = [self._batches.counts(edge) for edge in edges]
        return [
            Bin(edge, after[0] - before[0], after[1] - before[1])
            for edge, before, after in zip(edges[:-1], counts[:-1], counts[1:], strict=True)
        ]
