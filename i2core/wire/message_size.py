"""The limits of messages, in one place.

A frame carries at most `FRAME_LIMIT` bytes, and codecs may add a little. So every message has at most `MESSAGE_BYTES`:
records, listings, names, failures. Batches are normally closed at the much smaller `BATCH_BYTES`, since a batch is also
a step of the work. But one step may produce more (a thousand files beneath a path of 30 kB, the extents of one sparse
file). Its records may neither be dropped nor retried forever, so `batches` splits them into messages that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import attrs

from i2core.api import Record
from i2core.wire.encoding import PAIRS_LIMIT, RECORDS_LIMIT, TIME_BYTES, encoded_bytes
from i2core.wire.frame import FRAME_LIMIT, too_long

CODEC_ROOM = 64 * 1024
"""Most bytes that all codecs of a chain together add to a payload: sixteen times `CodecChain.STAGE_OVERHEAD`."""
MESSAGE_BYTES = FRAME_LIMIT - CODEC_ROOM
"""The longest payload before the codecs."""
BATCH_BYTES = 1024 * 1024
BATCH_RECORDS = 1000
"""A batch is sent when it has so many encoded bytes or records."""
PIECE_BYTES = 1024 * 1024
"""Most content that one record carries."""
WHOLE_BYTES = 4 * 1024 * 1024
"""Files with at most so much data are sent at once; larger ones in slices, staged until they are complete."""
COUNT_BYTES = 4
"""The bytes before the chunks of a listing, the names of a directory, and so on."""
TOP_BYTES = COUNT_BYTES + TIME_BYTES
"""Most bytes before the records of a batch."""

T = TypeVar("T")


def parts(
    items: Iterable[T], size: Callable[[T], int], *, most_size: int, most_items: int = 1 << 62
) -> Iterator[list[T]]:
    """The items in their order, in runs of at most `most_items` whose sizes together are at most `most_size`; a larger
    item gets a run of its own."""
    run: list[T] = []
    held = 0
    for item in items:
        takes = size(item)
        if run and (held + takes > most_size or len(run) >= most_items):
            yield run
            run, held = [], 0
        run.append(item)
        held += takes
    if run:
        yield run


@attrs.define
class Fill:
    """The current size of a batch."""

    records: int = 0
    bytes: int = 0
    """Bytes of the encoded records, with content, attributes and paths."""

    def add(self, records: Iterable[Record]) -> None:
        """Counts these records."""
        for record in records:
            self.records += 1
            self.bytes += encoded_bytes(record)

    @property
    def full(self) -> bool:
        """True when it is time to send."""
        return self.bytes >= BATCH_BYTES or self.records >= BATCH_RECORDS


def runs(records: Iterable[Record]) -> Iterator[list[Record]]:
    """The records in their order, in runs of the size of a batch: for records that exist already, instead of being made
    while others are sent."""
    return parts(records, encoded_bytes, most_size=BATCH_BYTES, most_items=BATCH_RECORDS)


def batches(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """The records in their order, in as few messages as possible; nearly always one.

    Raises:
        StopRule: a single record is longer than a message (3625); its maker should have refused it.
    """
    run: list[Record] = []
    held, pairs = TOP_BYTES, 0
    for record in records:
        takes, names = encoded_bytes(record), _pairs(record)
        if takes + TOP_BYTES > MESSAGE_BYTES or names > PAIRS_LIMIT:
            raise too_long(takes + TOP_BYTES, record.path.decode("utf-8", "backslashreplace"))
        if held + takes > MESSAGE_BYTES or len(run) >= RECORDS_LIMIT or pairs + names > PAIRS_LIMIT:
            yield run
            run, held, pairs = [], TOP_BYTES, 0
        run.append(record)
        held += takes
        pairs += names
    if run:
        yield run


def _pairs(record: Record) -> int:
    return len(record.meta.xattrs) if record.meta is not None and record.meta.xattrs else 0
