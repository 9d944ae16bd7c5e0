"""What changes the journal on disk. Called by one thread at a time; readers go by the shelf beside it.

Whatever takes more than one file happens in this order: new files durable, then the manifest replaced, then old files
removed. What a crash leaves of the first and the last is removed when the journal is opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import attrs

from i2_store_cdp.failures import SyncFailed, translated
from i2_store_cdp.home import Home
from i2_store_cdp.manifest import Entry, Manifest, in_order
from i2_store_cdp.reserve import Reserve
from i2_store_cdp.segment_head import SEGMENT_HEAD_BYTES
from i2_store_cdp.shelf import Shelf
from i2_store_cdp.walk import FrameFile
from i2_store_cdp.writing import LiveFile, MergedFile
from i2core.api import Code, StopRule
from i2core.api.journal import Draft, JournalContext, Mark, Placed, Position, Seal, SegmentGone
from i2core.api.journal.chain import ChainEnd
from i2core.posix.errnos import FULL
from i2core.posix.path_text import shown

T = TypeVar("T")
MANIFEST = b"manifest"
NOTE_BYTES = 1024 * 1024


class Store:
    """A journal's files, open for changes.

    A method for each change of the contract; the others are steps that several of them share, since all go by the same
    manifest and the same last segment."""

    def __init__(self, home: Home, context: JournalContext, manifest: Manifest, live: LiveFile) -> None:
        """`live` is the file of the manifest's last segment; taken over, as `home` is."""
        self.home = home
        self.shelf = Shelf(home, manifest, live.entry)
        self.reserve = Reserve(home, context.reserve_bytes)
        self._context, self._live = context, live
        self.is_broken = False
        """A sync failed: nothing is changed any more, and the manifest on disk may be the old one or the new one."""

    def close(self) -> None:
        """Lets all files go."""
        self._live.close()
        self.home.close()

    def append(self, group: Sequence[Draft]) -> list[Placed]:
        """`Journal.append`."""
        with self._changing("write CDP data", Code.CDP_DATA_WRITE):
            if self._live.entry.size >= self._context.segment_bytes:
                self._roll()
            placed = self._live.append(group)
            self.shelf.grow(self._live.entry)
        return placed

    def roll(self) -> None:
        """`Journal.roll`."""
        with self._changing("begin a segment", Code.CDP_DATA_WRITE):
            self._roll()

    def _roll(self) -> None:
        if self._live.is_empty:
            return
        manifest = self.shelf.manifest
        closed = self._live.entry
        live = LiveFile.create(self.home, manifest.next_number, closed.end)
        self._follow(live, (*manifest.entries[:-1], closed))

    def _follow(self, live: LiveFile, entries: tuple[Entry, ...]) -> None:
        """`live` is the last segment from now on, behind these."""
        manifest = self.shelf.manifest
        number = live.entry.number + 1
        try:
            self._publish(attrs.evolve(manifest, entries=(*entries, live.entry), next_number=number), live.entry)
        except BaseException:
            live.close()
            raise
        self._live.close()
        self._live = live

    def cut(self, at: Position, instead: Sequence[Draft]) -> list[Placed]:
        """`Journal.cut`."""
        with self._changing("cut off the end", Code.CDP_DATA_WRITE):
            entries = self.shelf.entries()
            index = next((index for index, entry in enumerate(entries) if entry.number == at.segment), -1)
            if index < 0 or any(entry.seal for entry in entries[index:]):
                raise ValueError(f"no frame of the chain's end begins at {at}")
            last = self._cut_entry(entries[index], at.offset)
            kept = [*entries[:index]] if last.end.number == last.begin.number else [*entries[:index], last]
            live = LiveFile.create(self.home, self.shelf.manifest.next_number, last.end)
            try:
                self._seal_again(live, kept)
                placed = live.append(instead)
            except BaseException:
                live.close()
                raise
            self._follow(live, tuple(kept))
            self._shorten(last)
        return placed

    def _cut_entry(self, entry: Entry, offset: int) -> Entry:
        """The entry of a segment that ends at `offset`."""
        if offset == entry.size:
            return entry
        end, first_ns = entry.begin, entry.begin.last_ns
        if offset not in (0, SEGMENT_HEAD_BYTES):
            end, first_ns = self._end_at(entry, offset), entry.first_ns
        return attrs.evolve(entry, end=end, size=max(offset, SEGMENT_HEAD_BYTES), first_ns=first_ns)

    def _end_at(self, entry: Entry, offset: int) -> ChainEnd:
        end = entry.begin
        with self.shelf.open(entry.number) as (fd, _):
            for found in FrameFile(fd, end.journal, entry.size).frames(SEGMENT_HEAD_BYTES):
                end = end.with_frame(found.head.header, found.hash)
                if found.end == offset:
                    return end
        raise ValueError(f"no frame begins at {offset} in segment {entry.number}")

    @staticmethod
    def _seal_again(live: LiveFile, kept: list[Entry]) -> None:
        """Merged segments whose seal is cut off are sealed by the new end."""
        loose = [entry for entry in kept if entry.seal and entry.sealed_by > live.entry.begin.number]
        if loose:
            number = live.seal([entry.stated_seal for entry in loose])
            kept[:] = [attrs.evolve(entry, sealed_by=number) if entry in loose else entry for entry in kept]

    def _shorten(self, entry: Entry) -> None:
        """Cuts the file at its new end. If that fails it is done when the journal is opened again."""
        with suppress(OSError):
            fd = self.home.open_segment(entry.number, os.O_RDWR)
            try:
                os.ftruncate(fd, entry.size)
            finally:
                os.close(fd)

    def begin_merge(self, run: Sequence[int]) -> MergedFile:
        """A merged segment for this run. Its number is used up even if nothing comes of it."""
        with self._changing("merge segments", Code.CDP_DATA_WRITE):
            manifest = self.shelf.manifest
            entries = manifest.run(run)
            taken = attrs.evolve(manifest, next_number=manifest.next_number + 1)
            self._publish(taken, self._live.entry, spare=True)
            return MergedFile(self.home, self.reserve, manifest.next_number, entries)

    def end_merge(self, run: Sequence[Entry], merged: Entry, note: bytes | None) -> Entry:
        """Puts a merged segment, which is durable, in the place of its run."""
        with self._changing("merge segments", Code.CDP_DATA_WRITE):
            first = self._still_there(run)
            before, after = self._without(first, len(run))
            loose = [entry for entry in (*before, *after) if run[0].begin.number < entry.sealed_by <= merged.end.number]
            seals = [merged.stated_seal, *(entry.stated_seal for entry in loose)]
            sealed = attrs.evolve(merged, sealed_by=self._seal(seals))
            entries = (
                attrs.evolve(entry, sealed_by=sealed.sealed_by) if entry in loose else entry
                for entry in (*before, sealed, *after)
            )
            self._replace_entries(tuple(entries), note)
        return sealed

    def _seal(self, seals: list[Seal]) -> int:
        number = self._with_room(lambda: self._live.seal(seals), spare=True)
        self.shelf.grow(self._live.entry)
        return number

    def _still_there(self, run: Sequence[Entry]) -> int:
        manifest = self.shelf.manifest
        first = manifest.index_of(run[0].number)
        now = manifest.entries[first : first + len(run)]
        if first < 0 or [(entry.number, entry.size) for entry in now] != [(entry.number, entry.size) for entry in run]:
            raise SegmentGone(run[0].number)
        return first

    def _without(self, first: int, count: int) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
        entries = self.shelf.manifest.entries
        return entries[:first], entries[first + count :]

    def drop(self, run: Sequence[int], note: bytes | None) -> None:
        """`Journal.drop`."""
        with self._changing("drop segments", Code.CDP_DATA_WRITE):
            manifest = self.shelf.manifest
            if manifest.run(run)[0] is not manifest.entries[0]:
                raise ValueError(f"these are not the oldest segments: {list(run)}")
            self._replace_entries(manifest.entries[len(run) :], note)

    def _replace_entries(self, entries: tuple[Entry, ...], note: bytes | None) -> None:
        manifest = self.shelf.manifest
        note = manifest.note if note is None else note
        self._publish(attrs.evolve(manifest, entries=entries, note=note), self._live.entry, spare=True)
        with suppress(OSError):  # it is filled up another time
            self.reserve.fill()

    def mark(self, add: Sequence[Mark], remove: Sequence[Mark]) -> None:
        """`Journal.mark`. What only removes may use the reserve."""
        with self._changing("write a mark", Code.CDP_DESCRIPTION_WRITE):
            manifest = self.shelf.manifest
            marks = in_order([*(mark for mark in manifest.marks if mark not in remove), *add])
            if marks != manifest.marks:
                self._publish(attrs.evolve(manifest, marks=marks), self._live.entry, spare=not add)

    def annotate(self, note: bytes) -> None:
        """`Journal.annotate`."""
        if len(note) > NOTE_BYTES:
            raise ValueError(f"a note of {len(note)} bytes is too long")
        with self._changing("write a note", Code.CDP_DESCRIPTION_WRITE):
            self._publish(attrs.evolve(self.shelf.manifest, note=note), self._live.entry)

    def use_reserve(self) -> None:
        """`Journal.use_reserve`."""
        with self._changing("give the reserve away", Code.CDP_DATA_WRITE):
            self.reserve.release()

    def restore_reserve(self) -> bool:
        """`Journal.restore_reserve`."""
        with self._changing("fill the reserve", Code.CDP_DATA_WRITE):
            return self.reserve.fill()

    def _publish(self, manifest: Manifest, live: Entry, *, spare: bool = False) -> None:
        content = manifest.encode()
        self._with_room(lambda: self.home.replace(MANIFEST, content), spare=spare)
        self.shelf.change(manifest, live)

    def _with_room(self, work: Callable[[], T], *, spare: bool) -> T:
        """What `work` gives; on a full disk the reserve is given to it if it may have it (`spare`)."""
        try:
            return work()
        except OSError as error:
            if error.errno not in FULL or not spare or not self.reserve.release():
                raise
            return work()

    @contextmanager
    def _changing(self, doing: str, code: Code) -> Iterator[None]:
        if self.is_broken:
            raise StopRule(
                "the disk has failed to store CDP data before",
                code=code,
                obj=shown(self.home.path),
                next_step="check the disk of the CDP directory, then start the rule",
            )
        with translated(self.home.path, doing, code):
            self.home.check()
            try:
                yield
            except SyncFailed:
                self.is_broken = True
                raise
