"""Makes the frames of a plan: gathers what it destroys, with the old bytes, in bounded memory.

A record may destroy more than memory holds (a large file is cut to nothing): its old bytes then go ahead in frames
without records. Such rows are true although the record may never follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from i2core.api.present import Present
from i2core.api.records import Buffer
from i2core.history.index.partition import Rows
from i2core.history.journal.frame import CHUNK_BYTES, Frame, Head, Size, assembled, chunk, placed, unpacked
from i2core.history.model.rows import HOLE, CatalogChange, DataWas, LogRecord, Touch
from i2core.history.plan.plan import Plan
from i2core.history.plan.step import Old, Restore, Step

FRAME_OLD_BYTES = 8 * 1024 * 1024
"""Old bytes in one frame, about."""
PAGE_BYTES = 4096
"""A record often writes a whole block of 64 KiB of which one page has changed."""
_RUNS = 4
"""Most rows about one block by one record."""


class Packed(NamedTuple):
    """A frame that is to be appended."""

    frame: Frame
    payload: bytes

    def placed(self, segment: int, offset: int) -> Rows:
        """The rows, now that the payload lies at `offset` in the segment. To be called once."""
        return placed(self.frame.rows, segment, offset)


def packed(
    plan: Plan,
    present: Present,
    applied_ns: int,
    extra: Sequence[CatalogChange] = (),
    *,
    old_bytes: int = FRAME_OLD_BYTES,
    page: int = PAGE_BYTES,
) -> Iterator[Packed]:
    """The frames of a plan; all are to be durable before its first step is carried out.

    `applied_ns`: the time, by this node's clock. `extra`: changes of the catalog that no record makes. These are
    objects that were enrolled when history began, and objects of earlier frames whose identity is known by now: all of
    them are to be in a frame (of an empty plan, if need be) before the replica's durable position moves past the
    records that made them. `old_bytes`: about so many in one frame. `page`: old bytes are compared with what
    is written in pieces of that size, and pieces that stay the same are left out.
    """
    head = Head(plan.first_seq, plan.steps[0].change.time_ns if plan.steps else 0, applied_ns)
    bag = _Bag(page)
    for step in plan.steps:
        for old in step.data:
            if bag.old_bytes >= old_bytes:
                yield bag.frame(head, (), ())
                bag = _Bag(page)
            bag.add(step.seq, old, present)
    yield bag.frame(head, plan.steps, extra)


def shortened(payload: bytes, failed: int, corrections: Sequence[CatalogChange]) -> Packed:
    """The frame again, without what was planned after the record that failed. `corrections`: what the catalog says
    other than planned, because only a part of that record was carried out."""
    frame = unpacked(payload)
    rows, old = Rows(), frame.rows
    rows.names = [row for row in old.names if row.until <= failed]
    rows.metas = [row for row in old.metas if row.until <= failed]
    rows.sizes = [row for row in old.sizes if row.until <= failed]
    rows.data = [row for row in old.data if row.until <= failed]
    rows.touches = old.touches
    catalog = [(seq, change) for seq, change in frame.catalog if seq <= failed] + [(failed, one) for one in corrections]
    log = [record for record in frame.log if record.seq <= failed]
    head = frame.head._replace(records=len(log))
    return _packed(head, log, placed(rows, 0, -frame.size.rows), catalog, payload[frame.size.rows :])


def merged(head: Head, rows: Rows, old: Sequence[bytes | None]) -> Packed:
    """A frame of a merged segment: rows that stay, without log and catalog. `old`: for each row of `rows.data` its
    bytes; None: it is a hole."""
    bag = _Bag()
    for row, data in zip(rows.data, old, strict=True):
        bag.put(row, data)
    rows.data, content = bag.contents()
    return _packed(head, [], rows, [], content)


def _packed(
    head: Head, log: list[LogRecord], rows: Rows, catalog: list[tuple[int, CatalogChange]], old: bytes
) -> Packed:
    frame = Frame(head, log, rows, catalog, Size())
    payload, size = assembled(frame, old)
    placed(rows, 0, size.rows)
    return Packed(frame._replace(size=size), payload)


class _Bag:
    """Gathers the old bytes of one frame."""

    def __init__(self, page: int = PAGE_BYTES) -> None:
        """`page`: see `packed`."""
        self._page = page
        self._chunks: list[bytes] = []
        self._size = 0
        self._waiting: list[bytes] = []
        self._filled = 0
        self._rows: list[tuple[DataWas, int]] = []
        """Rows, and which chunk has their bytes."""
        self.old_bytes = 0

    def add(self, until: int, old: Old, present: Present) -> None:
        """One row with its bytes."""
        row = DataWas(old.oid, old.block, until, old.lo, old.hi, HOLE, 0, 0, 0)
        if old.parts is None:
            self.put(row, None)
            return
        data = old.read(present)
        for lo, hi in _lost(data, old.new, self._page):
            self.put(row._replace(lo=old.lo + lo, hi=old.lo + hi), data[lo:hi])

    def put(self, row: DataWas, data: bytes | None) -> None:
        """One row with its bytes; None: it is a hole."""
        if data is None:
            self._rows.append((row, -1))
            return
        if self._filled + len(data) > CHUNK_BYTES:
            self._close()
        self._rows.append((row._replace(segment=0, position=self._size, skip=self._filled), len(self._chunks)))
        self._waiting.append(data)
        self._filled += len(data)
        self.old_bytes += len(data)

    def _close(self) -> None:
        if self._waiting:
            self._chunks.append(chunk(self._waiting))
            self._size += len(self._chunks[-1])
            self._waiting, self._filled = [], 0

    def frame(self, head: Head, steps: Sequence[Step], extra: Sequence[CatalogChange]) -> Packed:
        """The frame of these steps with all that was added."""
        rows = _rows_of(head.first_seq, steps)
        rows.data, old = self.contents()
        changes, losses = sum(bool(step.touched) for step in steps), sum(step.loses for step in steps)
        head = head._replace(records=len(steps), changes=changes, losses=losses)
        catalog: list[tuple[int, CatalogChange]] = [(0, change) for change in extra]
        catalog += [(step.seq, change) for step in steps for change in step.catalog]
        log = [_logged(step, head.applied_ns) for step in steps]
        return _packed(head, log, rows, catalog, old)

    def contents(self) -> tuple[list[DataWas], bytes]:
        """All rows, and all bytes. Places are counted from the beginning of the bytes."""
        self._close()
        sizes = [len(each) for each in self._chunks]
        rows = [row._replace(size=sizes[number]) if number >= 0 else row for row, number in self._rows]
        return rows, b"".join(self._chunks)


def _lost(data: bytes, new: Buffer, page: int) -> Iterator[tuple[int, int]]:
    """The parts of old bytes that `new` does not have in the same place, in whole pages; all, if they are many."""
    if len(new) != len(data):
        yield 0, len(data)
        return
    now = bytes(new)  # a view would be compared byte by byte
    starts = [at for at in range(0, len(data), page) if data[at : at + page] != now[at : at + page]]
    runs: list[tuple[int, int]] = []
    for at in starts:
        end = min(at + page, len(data))
        if runs and runs[-1][1] == at:
            runs[-1] = runs[-1][0], end
        else:
            runs.append((at, end))
    yield from runs if len(runs) <= _RUNS else [(runs[0][0], runs[-1][1])]


def _rows_of(batch: int, steps: Sequence[Step]) -> Rows:
    rows = Rows()
    touched: dict[int, None] = {}
    for step in steps:
        rows.names += step.names
        rows.metas += step.metas
        rows.sizes += step.sizes
        touched.update(dict.fromkeys(sorted(step.touched)))
    rows.touches = [Touch(oid, batch) for oid in touched]
    return rows


def _logged(step: Step, applied_ns: int) -> LogRecord:
    record, time_ns = step.record, step.change.time_ns
    other, offset = (record.kept, 0) if isinstance(record, Restore) else (record.other, record.offset)
    also = tuple(sorted(step.touched - {step.oid}))
    return LogRecord(
        step.seq, time_ns, applied_ns, step.op, step.oid, record.root, record.path, other, offset, step.length, also
    )
