"""Reads a whole segment and tells what is wrong with it, place by place."""

from __future__ import annotations

from collections.abc import Collection

from i2_store_cdp.manifest import Entry
from i2_store_cdp.segment_head import SEGMENT_HEAD_BYTES, SegmentHead
from i2_store_cdp.walk import Found, FrameFile, read_at
from i2core.api.journal import Fault, FaultKind, Inspection, Position, Seal
from i2core.api.journal.chain import ChainEnd
from i2core.api.journal.frames import FrameKind, decode_seals


def inspect(fd: int, entry: Entry, numbers: Collection[int]) -> Inspection:
    """What the segment's file holds, against its entry in the manifest. Raises OSError."""
    walk = _Walk(entry, SegmentHead.decode(read_at(fd, SEGMENT_HEAD_BYTES, 0)), numbers)
    file = FrameFile(fd, entry.begin.journal, entry.size)
    offset = SEGMENT_HEAD_BYTES
    while offset < entry.size:
        found = file.at(offset)
        if found is None or not found.whole:
            walk.damaged(found, offset)
            found = _behind(file, found, offset)
        if found is None:
            break
        walk.frame(found)
        offset = found.end
    return walk.result()


def missing(entry: Entry) -> Inspection:
    """What is told of a segment whose file is not there: its neighbours are in place."""
    fault = Fault(FaultKind.MISSING, Position(entry.number, 0), entry.begin.number + 1, entry.begin.next_seq)
    seal = entry.end.hash if entry.seal is None else entry.seal
    return Inspection(entry.number, entry.begin.hash, entry.end.hash, seal, 0, entry.end.next_seq, (), (fault,))


def _behind(file: FrameFile, found: Found | None, offset: int) -> Found | None:
    """The next whole frame behind damage: where the damaged one ends by its own header, or wherever there is one."""
    if found is not None:
        after = file.at(found.end)
        if after is not None and after.whole:
            return after
    return file.search(offset)


class _Walk:
    """What is expected next, and what was found so far."""

    def __init__(self, entry: Entry, head: SegmentHead | None, numbers: Collection[int]) -> None:
        self._entry, self._numbers = entry, numbers
        self._faults: list[Fault] = []
        self._seals: list[Seal] = []
        self._hashes: list[tuple[int, bytes]] = []
        self._frames = 0
        expected = SegmentHead.of(entry)
        self._end = expected.first_link()
        self._hash: bytes | None = self._end.hash
        """Of the frame before; None behind a fault."""
        if head != expected:
            kind = FaultKind.DAMAGED if head is None else FaultKind.ORDER
            self._faults.append(Fault(kind, Position(entry.number, 0), entry.begin.number + 1, entry.begin.next_seq))

    def damaged(self, found: Found | None, offset: int) -> None:
        """No whole frame begins at `offset`."""
        self._fault(FaultKind.DAMAGED, offset)
        self._hash = None
        if found is not None:
            self._end = self._end._replace(number=found.head.number)

    def frame(self, found: Found) -> None:
        """A whole frame."""
        head = found.head
        if head.number <= self._end.number or (self._follows(head.number) and head.previous != self._hash):
            self._fault(FaultKind.ORDER, found.offset)
        elif not self._follows(head.number) and self._hash is not None:
            self._fault(FaultKind.MISSING, found.offset)
        if head.kind is FrameKind.MERGE and self._entry.seal is None:
            self._seals += decode_seals(found.payload)
        if head.number in self._numbers and self._entry.seal is None:
            self._hashes.append((head.number, found.hash))
        before = self._end._replace(number=head.number - 1)
        self._end = before.with_frame(head.header, found.hash)
        self._hash = found.hash
        self._frames += 1

    def _follows(self, number: int) -> bool:
        return self._hash is not None and number == self._end.number + 1

    def _fault(self, kind: FaultKind, offset: int) -> None:
        place = Position(self._entry.number, offset)
        self._faults.append(Fault(kind, place, self._end.number + 1, self._end.next_seq))

    def result(self) -> Inspection:
        """All of it."""
        entry, end = self._entry, self._end
        expected = entry.end.hash if entry.seal is None else entry.seal
        if end.hash != expected and not self._faults:
            self._fault(FaultKind.MISSING, entry.size)
        outer: ChainEnd = entry.end if entry.seal is not None else end
        return Inspection(
            segment=entry.number,
            before=entry.begin.hash,
            after=outer.hash,
            hash=end.hash,
            frames=self._frames,
            next_seq=outer.next_seq,
            seals=tuple(self._seals),
            faults=tuple(self._faults),
            hashes=tuple(self._hashes),
        )
