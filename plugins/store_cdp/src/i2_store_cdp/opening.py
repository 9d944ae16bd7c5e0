"""Opens a journal: removes what a crash left of a change, and tells a torn end from a damaged one.

A frame that is not whole was torn if nobody can have relied on it. It is damaged if it was durable once: the known tip
lies behind it, or a frame behind it says so (`Head.settled`). Then nothing is touched, and a person must look.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import attrs

from i2_store_cdp.failures import translated
from i2_store_cdp.home import Home
from i2_store_cdp.manifest import Entry, Manifest
from i2_store_cdp.segment_head import SEGMENT_HEAD_BYTES, SegmentHead
from i2_store_cdp.store import MANIFEST, Store
from i2_store_cdp.system import sync, sync_data, write_at
from i2_store_cdp.walk import Found, FrameFile, read_at
from i2_store_cdp.writing import LiveFile
from i2core.api import Code, StopRule
from i2core.api.journal import JournalContext, Tip
from i2core.api.journal.chain import ChainEnd
from i2core.api.journal.frames import FrameKind, decode_seals
from i2core.posix.path_text import shown


def open_store(context: JournalContext) -> Store:
    """The journal's files, ready for changes.

    Raises:
        StopRule: as `Journal` has it.
        OSError: a passing lack; nothing is held.
    """
    with translated(context.directory, "open the CDP directory", Code.CDP_DESCRIPTION_READ):
        home = Home.open(context.directory, context.known)
    try:
        with translated(context.directory, "open the CDP data", Code.CDP_READ):
            manifest = _manifest(home, context)
            _clear(home, manifest)
            manifest, live = _Opening(home, context, manifest).live()
        store = Store(home, context, manifest, live)
    except BaseException:
        home.close()
        raise
    try:
        with translated(context.directory, "keep a reserve", Code.CDP_DATA_WRITE):
            if not store.reserve.fill():
                context.say(f"{shown(context.directory)}: too little room for the reserve of the CDP data")
    except BaseException:
        store.close()
        raise
    return store


def _manifest(home: Home, context: JournalContext) -> Manifest:
    try:
        content = home.read(MANIFEST)
    except FileNotFoundError:
        if context.known or (context.kept and context.kept.number) or not _nothing_begun(home):
            raise _missing_manifest(home) from None
        return _begin(home)
    return Manifest.decode(content, shown(home.path))


def _nothing_begun(home: Home) -> bool:
    """True where no frame can have been written: also where a crash came between the first files."""
    numbers = home.segment_numbers()
    return numbers in ([], [1]) and home.segment_size(1) <= SEGMENT_HEAD_BYTES


def _begin(home: Home) -> Manifest:
    """A new journal."""
    begin = ChainEnd(journal=int.from_bytes(os.urandom(8), "little"))
    live = LiveFile.create(home, 1, begin)
    live.close()
    manifest = Manifest(2, (live.entry,))
    home.replace(MANIFEST, manifest.encode())
    return manifest


def _clear(home: Home, manifest: Manifest) -> None:
    """Removes and shortens what a change that was cut off has left."""
    home.remove_file(MANIFEST + b".new")
    entries = {entry.number: entry for entry in manifest.entries}
    for number in home.segment_numbers():
        if number not in entries:
            home.remove_segment(number)
    for entry in manifest.entries[:-1]:
        if not entry.seal and home.segment_size(entry.number) > entry.size:
            fd = home.open_segment(entry.number, os.O_RDWR)
            try:
                os.ftruncate(fd, entry.size)
            finally:
                os.close(fd)


class _Scan(NamedTuple):
    """What the last segment's file holds."""

    entry: Entry
    settled: int
    """Number of the last frame that was durable for certain when its successor was written."""
    unsure_at: int
    """Where the first frame begins that nobody vouches for."""
    seals: dict[int, tuple[bytes, int]]
    """By segment: its seal, and the number of the frame that has it."""
    hashes: dict[int, bytes]


class _Opening:
    """The end of one journal, while it is opened."""

    def __init__(self, home: Home, context: JournalContext, manifest: Manifest) -> None:
        self._home, self._context, self._manifest = home, context, manifest
        self._kept = context.kept or Tip()

    def live(self) -> tuple[Manifest, LiveFile]:
        """The last segment's file, with its torn end cut off, and the manifest with the seals that are in it."""
        entry = self._manifest.entries[-1]
        try:
            fd = self._home.open_segment(entry.number, os.O_RDWR)
        except FileNotFoundError:
            raise self._damaged(f"segment {entry.number} is missing") from None
        try:
            self._check_head(fd, entry)
            file = FrameFile(fd, entry.begin.journal, os.fstat(fd).st_size)
            scan = self._scan(file, entry)
            self._check_kept(scan)
            self._check_torn(file, scan.entry)
            self._settle(fd, file, scan)
        except BaseException:
            os.close(fd)
            raise
        return self._sealed(scan), LiveFile(fd, scan.entry)

    def _check_head(self, fd: int, entry: Entry) -> None:
        if SegmentHead.decode(read_at(fd, SEGMENT_HEAD_BYTES, 0)) != SegmentHead.of(entry):
            raise self._damaged(f"segment {entry.number} begins wrong")

    @staticmethod
    def _scan(file: FrameFile, entry: Entry) -> _Scan:
        end, size, first_ns = entry.begin, SEGMENT_HEAD_BYTES, entry.first_ns
        settled, seals, hashes, places = end.number, dict[int, tuple[bytes, int]](), dict[int, bytes](), list[int]()
        for found in file.frames(SEGMENT_HEAD_BYTES):
            if not _follows(found, end):
                break
            if end == entry.begin:
                first_ns = found.head.header.first_ns
            if found.head.kind is FrameKind.MERGE:
                seals |= {seal.segment: (seal.hash, found.head.number) for seal in decode_seals(found.payload)}
            end, size = end.with_frame(found.head.header, found.hash), found.end
            places.append(found.offset)
            settled = max(settled, found.head.settled)
            hashes[end.number] = end.hash
        first_unsure = settled - entry.begin.number
        unsure_at = places[first_unsure] if first_unsure < len(places) else size
        return _Scan(attrs.evolve(entry, end=end, size=size, first_ns=first_ns), settled, unsure_at, seals, hashes)

    def _check_kept(self, scan: _Scan) -> None:
        """Raises StopRule where the known tip is not in the chain."""
        kept, end = self._kept, scan.entry.end
        if kept.number > end.number:
            raise self._damaged(f"frame {kept.number} is gone, the last one is {end.number}")
        known = scan.hashes.get(kept.number)
        for entry in self._manifest.entries:
            for at in (entry.begin, entry.end):
                known = at.hash if at.number == kept.number else known
            if known is None and not entry.seal and entry.begin.number < kept.number < entry.end.number:
                known = self._hash_of(entry, kept.number)
        if known not in (None, kept.hash):
            raise self._damaged(f"frame {kept.number} is another one")

    def _hash_of(self, entry: Entry, number: int) -> bytes | None:
        fd = self._home.open_segment(entry.number)
        try:
            for found in FrameFile(fd, entry.begin.journal, entry.size).frames(SEGMENT_HEAD_BYTES):
                if found.head.number == number:
                    return found.hash
        finally:
            os.close(fd)
        return b""

    def _check_torn(self, file: FrameFile, entry: Entry) -> None:
        """Raises StopRule where what follows the last whole frame was not torn."""
        found = file.search(entry.size - 1)
        while found is not None:
            if found.head.settled > entry.end.number:
                raise self._damaged(
                    f"frame {entry.end.number + 1} at {entry.size} in segment {entry.number} is damaged"
                )
            found = file.search(found.offset)

    def _settle(self, fd: int, file: FrameFile, scan: _Scan) -> None:
        """Cuts off the torn end. Frames of the last group are written once more: if their sync failed, the kernel shows
        them and takes them for stored, and they are not on the disk."""
        size = scan.entry.size
        if file.end > size:
            self._context.say(f"{shown(self._home.path)}: {file.end - size} bytes cut off that a crash had torn")
            os.ftruncate(fd, size)
        write_at(fd, [read_at(fd, size - scan.unsure_at, scan.unsure_at)], scan.unsure_at)
        sync_data(fd)
        sync(fd)

    def _sealed(self, scan: _Scan) -> Manifest:
        entries = list(self._manifest.entries)
        for index, entry in enumerate(entries):
            digest, number = scan.seals.get(entry.number, (None, 0))
            if entry.seal is not None and entry.seal == digest:
                entries[index] = attrs.evolve(entry, sealed_by=number)
        return attrs.evolve(self._manifest, entries=tuple(entries))

    def _damaged(self, what: str) -> StopRule:
        return StopRule(
            f"the end of the CDP data is damaged: {what}",
            code=Code.CDP_INCOMPLETE,
            obj=shown(self._home.path),
            next_step="restore the CDP directory, or clear the CDP data",
        )


def _follows(found: Found, end: ChainEnd) -> bool:
    return found.head.previous == end.hash and found.head.number == end.number + 1


def _missing_manifest(home: Home) -> StopRule:
    return StopRule(
        "the CDP description file is missing",
        code=Code.CDP_DESCRIPTION_READ,
        obj=shown(home.path),
        next_step="restore the CDP directory, or clear the CDP data",
    )
