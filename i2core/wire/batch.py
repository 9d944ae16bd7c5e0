"""Batches: records with their seqs, as they are kept until they are durable and as they are sent."""

from __future__ import annotations

from collections.abc import Sequence
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


class SeqCounter:
    """The next seq of a rule; shared by its sessions, which never send at the same time."""

    def __init__(self, next_seq: int = 1) -> None:
        self.next = next_seq

    def take(self, count: int) -> int:
        """Reserves `count` seqs and returns the first."""
        first = self.next
        self.next += count
        return first

    def seal(self, records: Sequence[Record]) -> list[EncodedBatch]:
        """The records with the next seqs: one batch, or more where a frame cannot hold them all."""
        return [self._seal(part) for part in batches(records)]

    def _seal(self, records: Sequence[Record]) -> EncodedBatch:
        first = self.take(len(records))
        return EncodedBatch(first, first + len(records) - 1, encode_records(records))
