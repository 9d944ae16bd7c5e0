"""The log of a history, page by page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import attrs

from i2core.api import Kind, Place
from i2core.history.ask.where import is_in
from i2core.history.model.rows import RESTORE, LogRecord
from i2core.history.record.history import History

PAGE = 100
MOST_SEEN = 50_000
"""Records that are looked at for one page: with a filter that nearly nothing passes, a page is short and says how to go
on, instead of holding up whoever else uses the history."""
_NEWEST = 1 << 62
OPS: dict[str, int] = {kind.name.lower(): int(kind) for kind in Kind} | {"restore": RESTORE}
"""By the word that people use."""
WORDS = {number: word for word, number in OPS.items()}


@attrs.frozen(kw_only=True)
class LogQuery:
    """What of the log is wanted."""

    place: Place | None = None
    """Only records about this path, or one beneath it, as it was called at that time."""
    oid: int = 0
    """Only records about this object, under all of its names; 0: of all."""
    ops: frozenset[int] = frozenset()
    """Only these operations; empty: all."""
    from_ns: int = 0
    to_ns: int = _NEWEST
    """Only changes at these times of the work node's clock, both included."""
    oldest_first: bool = False
    after: int | None = None
    """Where the page before ended; None: the first page."""
    limit: int = PAGE

    def wants(self, record: LogRecord) -> bool:
        """Whether the record is among them."""
        if not self.from_ns <= record.time_ns <= self.to_ns or (self.ops and record.op not in self.ops):
            return False
        return self.place is None or any(is_in(place, self.place) for place in _places(record))


class LogPage(NamedTuple):
    """Some records, in the wanted order."""

    records: list[LogRecord]
    after: int | None
    """For the next page; None: there is none."""


def log_page(history: History, query: LogQuery) -> LogPage:
    """One page."""
    found: list[LogRecord] = []
    with history.reading:
        last = None
        for count, record in enumerate(_records(history, query), 1):
            last = record.seq
            if query.wants(record):
                found.append(record)
            if len(found) == query.limit or count == MOST_SEEN:
                return LogPage(found, last)
    return LogPage(found, None)


def _records(history: History, query: LogQuery) -> Iterator[LogRecord]:
    """From where the page before ended to the last one that can be wanted."""
    log = history.log()
    if query.oid:
        before = _NEWEST if query.after is None else query.after
        yield from (record for record in log.of_object(query.oid, before) if record.time_ns >= query.from_ns)
        return
    if query.oldest_first:
        begin = log.moment(query.from_ns - 1) if query.from_ns else None
        after = query.after if query.after is not None else 0 if begin is None else begin.seq
        for record in log.after(after):
            if record.time_ns > query.to_ns:
                return
            yield record
        return
    end = log.moment(query.to_ns) if query.to_ns < _NEWEST else None
    before = query.after if query.after is not None else _NEWEST if end is None else end.seq + 1
    if end is None and query.to_ns < _NEWEST:
        return
    for record in log.before(before):
        if record.time_ns < query.from_ns:
            return
        yield record


def _places(record: LogRecord) -> Iterator[Place]:
    yield Place(record.root, record.path)
    if record.op in (Kind.RENAME, Kind.LINK):
        yield Place(record.root, record.other)


def record_json(record: LogRecord, shown: str) -> dict[str, Any]:
    """A record for programs; `shown`: its time as people write it."""
    return {
        "seq": record.seq,
        "time": shown,
        "time_ns": record.time_ns,
        "applied_ns": record.applied_ns,
        "op": WORDS.get(record.op, str(record.op)),
        "root": record.root,
        "path": os.fsdecode(record.path),
        "other": os.fsdecode(record.other) if record.op in (Kind.RENAME, Kind.LINK, Kind.SYMLINK) else "",
        "offset": record.offset,
        "length": record.length,
        "object": record.oid,
    }
