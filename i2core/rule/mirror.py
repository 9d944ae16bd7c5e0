"""The mirror: brings the replica to the source's state. Listing, comparing and sending overlap.

    lister ──SURVEY──▶ backup node ──VERDICTS──▶ builder ──BATCH──▶ backup node

The lister walks the source a few frames ahead; the backup node answers each listing with what it lacks; the builder
reads just that and makes records; a directory's own times are set behind its last entry. Memory holds a few frames,
whatever the size of the tree. Interrupted anywhere, a mirror is simply run again: what is there already compares equal,
also inside a large file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import NamedTuple

import trio

from i2core.api import BLOCK_BYTES, Code, Entry, Kind, Place, ProtocolError, Record
from i2core.api.changes import join
from i2core.api.entries import GONE, entry_of, xattrs_of_fd
from i2core.api.records import Buffer
from i2core.pipeline.blocks import scan
from i2core.rule.catalog import LinkTable, Row
from i2core.rule.content import Transfer
from i2core.rule.drafting import (
    WHOLE_BYTES,
    Drafted,
    Large,
    content_bytes,
    draft,
    meta_of,
    open_file,
    piece_records,
    setattr_record,
)
from i2core.rule.source import Source
from i2core.tasks import background
from i2core.wire.frame import FrameType
from i2core.wire.listing import Chunk, Judged, Listed, OrphanList, Verdict, decode_verdicts, encode_survey
from i2core.wire.session import Packed, Session

CHUNK_ENTRIES = 1000
FIRST_FRAME_ENTRIES = 64
"""The first listing is short, so that the first bytes leave at once."""
FRAME_ENTRIES = 2000
FRAMES_AHEAD = 4
CHUNK_BYTES = 2 * 1024 * 1024
"""Names, link texts and paths also count: neither a listing nor a batch may outgrow a frame."""
PATH_BYTES = 0xFFFF
"""The longest path that a record or a listing can hold."""
BATCH_BYTES = 1024 * 1024
BATCH_RECORDS = 1000
EVERYTHING = 1 << 62
# Plain numbers: an operation on an enum costs as much as a system call, and there are several for each file.
_SAME, _META, _WHOLE, _BLOCKS, _LINK = (
    int(Verdict.SAME),
    int(Verdict.META),
    int(Verdict.WHOLE),
    int(Verdict.BLOCKS),
    int(Verdict.LINK),
)

_UNKNOWN = Entry(b"", stat.S_IFDIR, 0, 0, 0, 0)


class Scope(NamedTuple):
    """A directory to be mirrored; with all beneath it when `deep`."""

    place: Place
    deep: bool = True


class _Asked(NamedTuple):
    """Chunks that were sent, and their answer to come."""

    chunks: list[Chunk]
    answer: Callable[[], Awaitable[Buffer]]


_Step = list[Record] | Large | OrphanList


class _Filled(NamedTuple):
    """What one worker job made: a batch, and what must be sent behind it by other means."""

    packed: Packed | None
    special: Large | OrphanList | None
    exhausted: bool


class Mirror:
    """One mirror run over a session.

    `orphans` sends the names that only the replica has to the backup node, which then acts as the rule says. Without,
    the run mends what live records left in doubt: beneath a deep scope such names are removed, for the records that
    were lost would have removed them.
    """

    def __init__(self, source: Source, session: Session, *, orphans: bool, strict: bool) -> None:
        self._source = source
        self._session = session
        self._orphans = orphans
        self._strict = strict
        self._links = LinkTable()
        self._pending: Packed | None = None
        self._shallow: set[Place] = set()
        self._deeper: list[Scope] = []
        # Lister and builder take turns: two threads under one interpreter lock make each other slower.
        self._one = trio.CapacityLimiter(1)
        self.renewed: list[Place] = []
        """Files with several names that were sent anew under one of them."""
        self.missed: set[Place] = set()
        """Directories that were gone from where they had been seen: not compared, in whole or in part."""

    async def run(self, scopes: Iterable[Scope]) -> None:
        """Mirrors the scopes; returns when all records are sent (not yet durable).

        Raises:
            LinkError: the link broke; run again.
            StopRule: an unreadable file, and the rule says to stop.
        """
        try:
            todo = list(scopes)
            while todo:
                self._shallow = {scope.place for scope in todo if not scope.deep}
                await self._run_once(todo)
                # Directories that a shallow scope found missing on the replica need all that is beneath them.
                todo, self._deeper = self._deeper, []
        finally:
            self._links.close()

    async def _run_once(self, scopes: list[Scope]) -> None:
        asked_out, asked_in = trio.open_memory_channel[_Asked](FRAMES_AHEAD)
        async with background() as nursery:
            nursery.start_soon(self._list, scopes, asked_out)
            async for asked in asked_in:
                judged = decode_verdicts(await asked.answer())
                if len(judged) != len(asked.chunks):
                    raise ProtocolError("an answer does not fit its listing")
                await self._bring(self._steps(asked.chunks, judged))
            await self._send_pending()

    # ------------------------------------------------------------------------------------------ listing

    async def _list(self, scopes: list[Scope], out: trio.MemorySendChannel[_Asked]) -> None:
        chunks = self._chunks(scopes)
        limit = FIRST_FRAME_ENTRIES
        async with out:
            while True:
                frame = await trio.to_thread.run_sync(_take_frame, chunks, limit, limiter=self._one)
                if not frame:
                    break
                limit = FRAME_ENTRIES
                answer = await self._session.post(FrameType.SURVEY, encode_survey(frame))
                await out.send(_Asked(frame, answer))
        self._source.status.listing_done = True

    def _chunks(self, scopes: list[Scope]) -> Iterator[Chunk]:
        """The directories of the scopes, each in chunks, parents before children."""
        stack = list(reversed(scopes))
        while stack:
            place, deep = stack.pop()
            below: list[Scope] = []
            try:
                with self._source.trees[place.root].directory(place.path) as fd:
                    yield from self._directory(fd, place, below)
            except OSError as error:
                self._miss(place, error)
            if deep:
                stack += reversed(below)

    def _directory(self, fd: int, place: Place, below: list[Scope]) -> Iterator[Chunk]:
        source, tree, status = self._source, self._source.trees[place.root], self._source.status
        here = tree.here(fd)
        first, size = True, 0
        listed: list[Listed] = []
        for entry in tree.entries(fd, at_root=not place.path):
            path = join(place.path, entry.name)
            is_dir = stat.S_ISDIR(entry.mode)
            if not source.wants(Place(place.root, path), is_dir):
                continue
            if len(path) > PATH_BYTES:
                source.unreadable(Place(place.root, path), OSError(errno.ENAMETOOLONG, "the path is too long"))
                continue
            link = None
            if is_dir:
                below.append(Scope(Place(place.root, path)))
            else:
                status.listed_files += 1
                if stat.S_ISREG(entry.mode):
                    status.listed_bytes += entry.size
                    if entry.nlink > 1:
                        link = self._links.first(place.root, entry, path)
            listed.append(Listed(entry, link))
            size += len(entry.name) + len(entry.target) + (len(link) if link else 0)
            if len(listed) == CHUNK_ENTRIES or size >= CHUNK_BYTES:
                yield Chunk(place.root, place.path, here, first, False, self._strict, listed)
                first, listed, size = False, [], 0
        yield Chunk(place.root, place.path, here, first, True, self._strict, listed)

    # ------------------------------------------------------------------------------------------ building

    async def _bring(self, steps: Iterator[_Step]) -> None:
        """Carries the steps out: the next batch is built while the one before is being sent."""
        while True:
            async with background() as nursery:
                sent = trio.Event()
                nursery.start_soon(self._send_and_tell, sent)
                filled = await trio.to_thread.run_sync(self._fill, steps, limiter=self._one)
                await sent.wait()
            self._pending = filled.packed
            if isinstance(filled.special, Large):
                await self._send_pending()
                await self._send_large(filled.special)
            elif filled.special is not None:
                await self._send_pending()
                for part in await self._separate(filled.special):
                    await self._session.ask(FrameType.ORPHANS, part.encode())
            if filled.exhausted:
                return

    async def _send_and_tell(self, sent: trio.Event) -> None:
        await self._send_pending()
        sent.set()

    async def _send_pending(self) -> None:
        packed, self._pending = self._pending, None
        if packed is not None:
            await self._session.send(packed)

    async def _send_large(self, large: Large) -> None:
        source, before = self._source, self._source.status.sent_bytes
        try:
            await Transfer(source, self._session, large.place, whole=large.whole, trust=False).run()
        except OSError as error:
            if error.errno not in GONE:
                source.unreadable(large.place, error)
        # A file that was compared block by block and found equal was not sent.
        source.status.sent_files += source.status.sent_bytes > before or large.whole

    def _fill(self, steps: Iterator[_Step]) -> _Filled:
        """Pulls steps until a batch is full; for worker threads."""
        records: list[Record] = []
        size = weight = 0
        special: Large | OrphanList | None = None
        exhausted = True
        for step in steps:
            if not isinstance(step, list):
                special, exhausted = step, False
                break
            records += step
            size += content_bytes(step)
            weight += sum([len(record.path) + len(record.other) + _xattr_bytes(record) for record in step])
            if size >= BATCH_BYTES or len(records) >= BATCH_RECORDS or weight >= BATCH_BYTES:
                exhausted = False
                break
        self._source.status.sent_bytes += size
        self._source.catalog.commit()
        return _Filled(self._session.pack(records) if records else None, special, exhausted)

    def _steps(self, chunks: list[Chunk], judged: list[Judged]) -> Iterator[_Step]:
        for chunk, answer in zip(chunks, judged, strict=True):
            if len(answer.verdicts) != len(chunk.listed):
                raise ProtocolError("an answer does not fit its listing")
            place = Place(chunk.root, chunk.path)
            try:
                with self._source.trees[chunk.root].directory(chunk.path) as fd:
                    yield from self._chunk_steps(fd, place, chunk, answer)
            except OSError as error:
                self._miss(place, error)

    def _miss(self, place: Place, error: OSError) -> None:
        """A directory cannot be read, or is gone."""
        self.missed.add(place)
        if error.errno not in GONE:
            self._source.unreadable(place, error)

    def _chunk_steps(self, fd: int, place: Place, chunk: Chunk, answer: Judged) -> Iterator[_Step]:
        source = self._source
        here = source.catalog.get(place)
        known = here is not None and stat.S_ISDIR(here.mode)
        if here is None or not here.is_object(chunk.here) or (chunk.first and not place.path):
            try:
                here = source.catalog.put(place, chunk.here)
            except KeyError:  # the directory above was renamed meanwhile; that has a hint of its own
                self.missed.add(place)
                return
        if not known and place.path:
            # The listing of the directory above, a moment earlier, showed another object here, or none.
            yield [Record(Kind.MKDIR, place.root, place.path, meta=meta_of(chunk.here, None))]
        rows = source.catalog.children(here)
        kept: list[tuple[Entry, Row | None]] = []
        touched = bool(answer.here)
        for index, (entry, link) in enumerate(chunk.listed):
            at = place.child(entry.name)
            row = rows.pop(entry.name, None)
            verdict = answer.verdicts[index]
            if row is not None and not (row.is_object(entry) and row.same_content(entry)):
                source.catalog.drop_digests(row)
            if verdict == _SAME:
                known = row is not None and row.is_object(entry)
                if place in self._shallow and stat.S_ISDIR(entry.mode) and not known:
                    self._deeper.append(Scope(at))
                kept.append((entry, row))
                self._count(entry)
                continue
            if verdict & _WHOLE and entry.nlink > 1 and not stat.S_ISDIR(entry.mode):
                self.renewed.append(at)
            try:
                step = self._entry_step(fd, at, entry, link, verdict, answer.digests.get(index))
            except OSError as error:
                if error.errno not in GONE:
                    source.unreadable(at, error, Code.OPEN_SOURCE)
                elif row is not None:
                    source.catalog.doubt(row)  # moved on before it was compared
                self._count(entry)
                continue
            if isinstance(step, Large):
                touched = True
                source.status.checked_files += 1
                yield step
                continue
            kept.append((step.entry, row))
            source.status.sent_files += bool(step.records) and not stat.S_ISDIR(entry.mode)
            self._count(entry)
            if step.digests:
                source.catalog.put_all(here, [kept.pop()])
                fresh = source.catalog.get(at)
                if fresh is not None:
                    source.catalog.set_digests(fresh, 0, step.digests)
            if step.records:
                touched = True
                yield step.records
        source.catalog.put_all(here, kept)
        orphans = self._confirmed(fd, place, answer.orphans)
        mending = not self._orphans and place not in self._shallow
        if chunk.first and chunk.last:
            removed = set(orphans) if self._orphans or mending else set()
            for row in rows.values():  # sent once, gone from the source since
                # What the replica still has and nobody removes now has a hint to come: it moved, or is there again.
                if row.name in removed or row.name not in answer.orphans:
                    source.catalog.remove(row)
        if orphans and self._orphans:
            touched = True
            yield OrphanList(place.root, place.path, orphans)
        elif orphans and mending:
            touched = True
            yield [Record(Kind.REMOVE, place.root, join(place.path, name)) for name in orphans]
        if touched:
            # Entries made or removed above changed the directory's times on the replica.
            now = source.trees[place.root].here(fd)
            source.catalog.put(place, now)
            yield [setattr_record(fd, place, now)]

    def _entry_step(
        self, fd: int, at: Place, entry: Entry, link: bytes | None, verdict: int, base: bytes | None
    ) -> Drafted | Large:
        """What one entry needs.

        Raises:
            OSError: it cannot be read, or is gone.
        """
        if stat.S_ISDIR(entry.mode):
            # An existing directory's own metadata is set behind its own entries.
            if verdict & _WHOLE:
                if at.above in self._shallow:
                    self._deeper.append(Scope(at))
                return draft(fd, at, entry)
            return Drafted([], entry)
        if verdict & _LINK and link is not None:
            return Drafted([Record(Kind.LINK, at.root, at.path, other=link)], entry)
        if verdict & _BLOCKS and stat.S_ISREG(entry.mode):
            return Large(at, entry, whole=False) if base is None else _patch(fd, at, entry, verdict, base)
        if verdict & _WHOLE:
            return draft(fd, at, entry)
        return Drafted([setattr_record(fd, at, entry)], entry)

    def _confirmed(self, fd: int, place: Place, names: list[bytes]) -> list[bytes]:
        """The names among the replica's extra ones that the source really lacks, and that the rule protects."""
        tree = self._source.trees[place.root]
        found = []
        for name in names:
            if tree.entry(fd, name) is not None or (not place.path and tree.only not in (None, name)):
                continue
            if self._covers(place.child(name)):
                found.append(name)
        return found

    async def _separate(self, orphans: OrphanList) -> list[OrphanList]:
        """The orphans, without what the rule excludes beneath directories that only the replica has: that stays, and
        what lies beside it goes one by one."""
        if self._source.filter.empty:
            return [orphans]
        root, found, kept = orphans.root, [orphans], set[bytes]()
        level = [join(orphans.path, name) for name in orphans.names]
        while level:
            asked, level = level[:CHUNK_ENTRIES], level[CHUNK_ENTRIES:]
            chunks = [Chunk(root, path, _UNKNOWN, True, True, False, []) for path in asked]
            judged = decode_verdicts(await self._session.ask(FrameType.SURVEY, encode_survey(chunks)))
            for path, answer in zip(asked, judged, strict=True):
                if answer.here & _WHOLE:  # no directory
                    continue
                names = [name for name in answer.orphans if self._covers(Place(root, join(path, name)))]
                found.append(OrphanList(root, path, names))
                level += [join(path, name) for name in names]
                above = path if len(names) < len(answer.orphans) else orphans.path
                while above != orphans.path:
                    kept.add(above)
                    above = above.rpartition(b"/")[0]
        parts = [
            OrphanList(root, path, [name for name in names if join(path, name) not in kept])
            for _, path, names in found
            if path == orphans.path or path in kept
        ]
        return [part for part in parts if part.names]

    def _covers(self, at: Place) -> bool:
        """True when the rule protects the name whatever it is on the replica: that is not known here, and what any
        exclusion covers is left alone."""
        return self._source.wants(at, is_dir=False) and self._source.wants(at, is_dir=True)

    def _count(self, entry: Entry) -> None:
        if not stat.S_ISDIR(entry.mode):
            self._source.status.checked_files += 1
            if stat.S_ISREG(entry.mode):
                self._source.status.checked_bytes += entry.size


def _patch(fd: int, at: Place, entry: Entry, verdict: int, base: bytes) -> Drafted | Large:
    """Compares a file of a few blocks with the replica's digests; records for what differs."""
    file, status = open_file(fd, entry.name)
    try:
        if status.st_size > WHOLE_BYTES:  # it has grown since it was listed
            return Large(at, entry, whole=False)
        found = scan(file, 0, status.st_size, base, EVERYTHING)
        now = entry_of(entry.name, status, digest=entry.xattrs)
        records = piece_records(at, found, staged=False)
        if records or verdict & _META:
            records.append(Record(Kind.TRUNCATE, at.root, at.path, size=status.st_size))
            meta = meta_of(now, xattrs_of_fd(file))
            records.append(Record(Kind.SETATTR, at.root, at.path, meta=meta))
        # Nothing to send: what is known to be equal is what was listed, should its attributes have changed since.
        return Drafted(records, now if records else entry, found.hashes if status.st_size > BLOCK_BYTES else b"")
    finally:
        os.close(file)


def _xattr_bytes(record: Record) -> int:
    pairs = record.meta.xattrs if record.meta is not None else None
    return sum(len(name) + len(value) for name, value in pairs) if pairs else 0


def _listed_bytes(chunk: Chunk) -> int:
    return len(chunk.path) + sum(
        len(entry.name) + len(entry.target) + (len(link) if link else 0) for entry, link in chunk.listed
    )


def _take_frame(chunks: Iterator[Chunk], limit: int) -> list[Chunk]:
    """Chunks for one frame: up to about `limit` entries and `CHUNK_BYTES` of names."""
    frame: list[Chunk] = []
    entries = size = 0
    for chunk in chunks:
        frame.append(chunk)
        entries += len(chunk.listed) + 1
        size += _listed_bytes(chunk)
        if entries >= limit or size >= CHUNK_BYTES:
            break
    return frame
