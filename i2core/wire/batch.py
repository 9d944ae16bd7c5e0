"""Batches: records with their seqs, as they are kept until they are durable and as they are sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from i2core.api import Record
from i2core.api.records import Buffer
from i2core.wire.encoding import encode_records
from i2core.wire.message_size import batches


class EncodedBatch(NamedTuple):
    """A batch with its seqs, as `encode_records` makes it. It is kept in this form, because it may be retransmitted."""

    first_seq: int
    last_seq: int
    raw: Buffer


class WireBatch(NamedTuple):
    """A batch encoded by the session's codecs, ready to be sent."""

    batch: EncodedBatch
    payload: Buffer


def no_time() -> int:
    """The clock of a rule whose records need no time."""
    return 0


class SeqCounter:
    """The next seq of a rule, and the time of its records; shared by its sessions, which never send at the same time.
    `clock`: the present time in ns since the epoch, never less than before; 0: records have no time."""

    def __init__(self, next_seq: int = 1, clock: Callable[[], int] = no_time) -> None:
        self.next = next_seq
        self._clock = clock

    def take(self, count: int) -> int:
        """Reserves `count` seqs and returns the first."""
        first = self.next
        self.next += count
        return first

    def seal(self, records: Sequence[Record]) -> list[EncodedBatch]:
        """The records with the next seqs and the present time: one batch, or more where a frame cannot hold them all.

        Every record gets both here and nowhere else. What it says was read before this call, so a state of the replica
        at a time contains nothing that was written after that time."""
        time_ns = self._clock() if records else 0
        return [self._seal(part, time_ns) for part in batches(records)]

    def _seal(self, records: Sequence[Record], time_ns: int) -> EncodedBatch:
        first = self.take(len(records))
        return EncodedBatch(first, first + len(records) - 1, encode_records(records, time_ns))
