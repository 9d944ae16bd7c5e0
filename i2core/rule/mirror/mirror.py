"""The mirror: brings the replica to the source's state. Listing, comparing and sending overlap.

    lister ──SURVEY──▶ backup node ──VERDICTS──▶ builder ──BATCH──▶ backup node

The lister walks the source a few frames ahead; the backup node answers each listing with what it lacks; the builder
reads just that and makes records; a directory's own times are set behind its last entry. Memory holds a few frames,
whatever the size of the tree. Interrupted anywhere, a mirror is simply run again: what is there already compares equal,
also inside a large file.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import trio

from i2core.api import Code, Entry, Kind, Place, ProtocolError, Record
from i2core.api.changes import join
from i2core.api.entries import GONE
from i2core.api.records import Buffer
from i2core.rule.mirror.extra import Extra
from i2core.rule.mirror.lister import Lister, Scope
from i2core.rule.mirror.shared import SharedFiles, is_shared
from i2core.rule.reading.catalog import OPEN, Doubt, Row
from i2core.rule.reading.content import Transfer
from i2core.rule.reading.drafting import (
    Drafted,
    Large,
    content_bytes,
    draft,
    draft_patch,
    meta_of,
    setattr_record,
)
from i2core.rule.reading.source import Source
from i2core.tasks import background
from i2core.wire.frame import FrameType
from i2core.wire.listing import Chunk, Judged, OrphanList, Verdict, decode_verdicts, encode_survey
from i2core.wire.session import Packed, Session

FRAMES_AHEAD = 4
BATCH_BYTES = 1024 * 1024
BATCH_RECORDS = 1000
# Plain numbers: an operation on an enum costs as much as a system call, and there are several for each file.
_SAME, _META, _WHOLE, _BLOCKS, _LINK = (
    int(Verdict.SAME),
    int(Verdict.META),
    int(Verdict.WHOLE),
    int(Verdict.BLOCKS),
    int(Verdict.LINK),
)


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
        self._lister = Lister(source, strict=strict)
        self._pending: Packed | None = None
        self._shallow: set[Place] = set()
        self._deeper: list[Scope] = []
        self.deepened: dict[Doubt, None] = {}
        """Directories beneath shallow scopes that the replica lacks, or did not have from here, with all that is in
        them. The catalog keeps them in doubt as well: that they are there is no sign of what is in them."""
        self.unsettled: list[Doubt] = []
        """Names that only the replica had when they were listed, and that the source has made since; or the other way
        round."""
        self._blank: Place | None = None
        # Lister and builder take turns: two threads under one interpreter lock make each other slower.
        self._one = trio.CapacityLimiter(1)
        self._shared = SharedFiles(source.catalog, certain=orphans)
        self._extra = Extra(source, session)

    @property
    def renewed(self) -> list[Place]:
        """Files with several names that were sent anew under one of them."""
        return self._shared.renewed

    @property
    def missed(self) -> set[Place]:
        """Directories that were gone from where they had been seen: not compared, in whole or in part. And names that
        only the replica has, beneath shallow scopes: what of them is in doubt has gone since it was looked for."""
        return self._lister.missed

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
            self._lister.close()

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
        frames = self._lister.frames(scopes)
        owners = self._session.welcome.owns
        # Closed without a checkpoint: the reader may end first, and an error would turn into a mere cancellation.
        with out:
            while (frame := await trio.to_thread.run_sync(next, frames, None, limiter=self._one)) is not None:
                answer = await self._session.post(FrameType.SURVEY, encode_survey(frame, owners=owners))
                await out.send(_Asked(frame, answer))
        self._source.status.listing_done = True

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
                await self._extra.send(filled.special)
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
        place, inode = large.place, large.entry.ino
        transfer = Transfer(source, self._session, place, whole=large.whole, trust=False, inode=inode)
        try:
            await transfer.run()
        except OSError as error:
            if error.errno not in GONE:
                source.unreadable(large.place, error)
        if is_shared(large.entry) and transfer.brought != inode:
            self._shared.miss(place)
        # A file that was compared block by block and found equal was not sent.
        source.status.sent_files += source.status.sent_bytes > before or large.whole

        for step in await trio.to_thread.run_sync(self._left_by, large.place):
            if isinstance(step, OrphanList):
                await self._extra.send(step)
            elif isinstance(step, list):
                await self._session.send_records(step)

    def _left_by(self, place: Place) -> list[_Step]:
        """What is to be done behind a large file, should it have vanished before it was sent."""
        if self._source.catalog.get(place) is not None:
            return []
        try:
            with self._source.trees[place.root].directory(place.above.path) as fd:
                return list(self._vanished_steps(fd, place))
        except OSError as error:
            if error.errno not in GONE:
                self._source.unreadable(place, error)
            return []

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
            if len(answer.verdicts) != len(chunk.entries):
                raise ProtocolError("an answer does not fit its listing")
            place = Place(chunk.root, chunk.path)
            here = self._source.catalog.get(place)
            known = here is not None and stat.S_ISDIR(here.mode)
            if here is not None and here.is_object(chunk.here) and self._is_same(place, here, chunk, answer):
                self._source.catalog.put_listing(here, chunk.entries)
                self._count(chunk.entries)
                continue
            try:
                with self._source.trees[chunk.root].directory(chunk.path) as fd:
                    yield from self._chunk_steps(fd, place, here if known else None, chunk, answer)
            except OSError as error:
                self._lister.miss(place, error)
                self._shared.miss(*(place.child(entry.name) for entry in chunk.entries if is_shared(entry)))

    def _is_same(self, place: Place, here: Row, chunk: Chunk, answer: Judged) -> bool:
        """True when nothing is to be done but to note what was listed."""
        if answer.here or answer.orphans or any(answer.verdicts) or place in self._shallow:
            return False
        if any(self._shared.is_missed(place, link) for link in chunk.links.values()):
            return False
        if not self._orphans and any(is_shared(entry) for entry in chunk.entries):
            return False
        return self._is_blank(place, here, chunk)

    def _is_blank(self, place: Place, here: Row, chunk: Chunk) -> bool:
        """True when all that the catalog knows of the directory comes from earlier chunks of it."""
        if chunk.first and self._blank != place:
            self._blank = place if self._source.catalog.is_blank(here) else None
        return self._blank == place

    def _chunk_steps(self, fd: int, place: Place, here: Row | None, chunk: Chunk, answer: Judged) -> Iterator[_Step]:
        catalog, new = self._source.catalog, here is None
        if here is None or not here.is_object(chunk.here) or (chunk.first and not place.path):
            try:
                here = catalog.put(place, chunk.here)
            except KeyError:  # the directory above was renamed meanwhile; that has a hint of its own
                self._lister.missed.add(place)
                return
        if new and place.path:
            # The listing of the directory above, a moment earlier, showed another object here, or none.
            yield [
                Record(Kind.MKDIR, place.root, place.path, meta=meta_of(chunk.here, None)),
                *self._times(place.above),
            ]
        blank = self._is_blank(place, here, chunk)
        rows = {} if blank else catalog.children(here)
        touched = bool(answer.here)
        for step in self._entry_steps(fd, place, here, chunk, answer, rows, blank=blank):
            touched = True
            yield step
        for step in self._orphan_steps(fd, place, chunk, answer, rows):
            touched = True
            yield step
        if touched:
            # Entries made or removed above changed the directory's times on the replica.
            now = self._source.trees[place.root].here(fd)
            catalog.put(place, now)
            yield [setattr_record(fd, place, now)]

    def _times(self, place: Place) -> list[Record]:
        """What sets the metadata of a directory in which something was made behind all that it lists. One that has
        moved on has a hint of its own."""
        tree = self._source.trees[place.root]
        with contextlib.suppress(OSError, KeyError), tree.directory(place.path) as fd:
            now = tree.here(fd)
            self._source.catalog.put(place, now)
            return [setattr_record(fd, place, now)]
        return []

    def _entry_steps(
        self,
        fd: int,
        place: Place,
        here: Row,
        chunk: Chunk,
        answer: Judged,
        rows: dict[bytes, Row],
        *,
        blank: bool,
    ) -> Iterator[_Step]:
        """What the entries need; notes them in the catalog, and takes out of `rows` those that are listed."""
        source, catalog, known = self._source, self._source.catalog, len(self._deeper)
        kept: list[tuple[Entry, Row | None]] = []
        for index, entry in enumerate(chunk.entries):
            row = rows.pop(entry.name, None)
            if row is not None and not (row.is_object(entry) and row.same_content(entry)):
                catalog.digests.drop(row.id)
            verdict, first = answer.verdicts[index], chunk.links.get(index)
            if verdict == _SAME and self._shared.is_missed(place, first):
                verdict = _WHOLE
            if not (self._orphans or verdict & (_WHOLE | _LINK)) and _is_another(entry, row):
                # Whatever the replica has here, it is not known to be one file with the other names.
                self._renew(place.child(entry.name), entry)
            if verdict == _SAME:
                if not self._is_left(place, entry, row):
                    kept.append((entry, row))
                self._count((entry,))
                continue
            at = place.child(entry.name)
            link = None
            if verdict & _LINK or (verdict & _WHOLE and is_shared(entry)):
                link = self._shared.sent_as(at, entry, first, kept)
            try:
                step = self._entry_step(fd, at, entry, link, verdict, answer.digests.get(index))
            except OSError as error:
                if is_shared(entry):
                    self._shared.miss(at)
                if error.errno not in GONE:
                    source.unreadable(at, error, Code.OPEN_SOURCE)
                elif row is not None:
                    catalog.doubt(row)  # moved on before it was compared
                else:
                    yield from self._vanished_steps(fd, at)
                self._count((entry,))
                continue
            other = (step.entry.dev, step.entry.ino) != (entry.dev, entry.ino)
            if other and is_shared(entry):
                self._shared.miss(at)
            if link is None and is_shared(step.entry) and (other or verdict & (_WHOLE | _LINK)):
                if other or not is_shared(entry):  # it got this name or another since it was listed
                    link = self._shared.sent_as(at, step.entry, None, kept)
                if link is None:
                    self._renew(at, step.entry)
                else:
                    step = Drafted([Record(Kind.LINK, at.root, at.path, other=link)], step.entry)
            if isinstance(step, Large):
                source.status.checked_files += 1
                yield step
                continue
            self._count((entry,))
            source.status.sent_files += bool(step.records) and not stat.S_ISDIR(entry.mode)
            if step.digests:
                catalog.digests.put(catalog.put_child(here, step.entry, row).id, 0, step.digests)
            else:
                kept.append((step.entry, row))
            if step.records:
                yield source.superseding(at, step.records)
        if blank:
            catalog.put_listing(here, [entry for entry, _ in kept])
        else:
            catalog.put_all(here, kept)
        if len(self._deeper) > known:
            deepened = [catalog.doubt_at(scope.place, deep=True) for scope in self._deeper[known:]]
            catalog.keep_doubts(OPEN, deepened)
            self.deepened.update(dict.fromkeys(deepened))

    def _renew(self, at: Place, entry: Entry) -> None:
        """A file is sent under one of its names: under the others, if it was sent at all, it is another one there."""
        self._shared.renew(at, entry)
        if not self._orphans:
            self._source.catalog.keep_doubts(OPEN, [self._source.catalog.doubt_at(at)])

    def _is_left(self, place: Place, entry: Entry, row: Row | None) -> bool:
        """True for a directory beneath a shallow scope: its metadata would be compared with its own entries, so its row
        goes on saying what was sent. One that was not sent from here is mirrored, too."""
        if place not in self._shallow or not stat.S_ISDIR(entry.mode):
            return False
        if row is not None and row.is_object(entry):
            return True
        self._deeper.append(Scope(place.child(entry.name)))
        return False

    def _vanished_steps(self, fd: int, at: Place) -> Iterator[_Step]:
        """What becomes of a name that went before it was sent: the replica may have an orphan there, which counted as
        the listed object until now."""
        above, _, name = at.path.rpartition(b"/")
        if self._confirmed(fd, at.above, [name]):
            if self._orphans:
                yield OrphanList(at.root, above, [name])
            elif at.above not in self._shallow:
                yield [Record(Kind.REMOVE, at.root, at.path)]
            else:
                self.unsettled.append(self._source.catalog.doubt_at(at))

    def _orphan_steps(
        self, fd: int, place: Place, chunk: Chunk, answer: Judged, rows: dict[bytes, Row]
    ) -> Iterator[_Step]:
        """What becomes of names that only the replica has. `rows`: what was sent once, and is gone from the source."""
        orphans = self._confirmed(fd, place, answer.orphans)
        mending = not self._orphans and place not in self._shallow
        if chunk.first and chunk.last:
            removed = set(orphans) if self._orphans or mending else set()
            for row in rows.values():
                # What the replica still has and nobody removes now has a hint to come: it moved, or is there again.
                if row.name in removed or row.name not in answer.orphans:
                    self._source.catalog.remove(row)
        if orphans and self._orphans:
            yield OrphanList(place.root, place.path, orphans)
        elif orphans and mending:
            yield [Record(Kind.REMOVE, place.root, join(place.path, name)) for name in orphans]
        else:
            self._lister.missed.update([place.child(name) for name in orphans if name not in rows])

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
        if link is not None:
            return Drafted([Record(Kind.LINK, at.root, at.path, other=link)], entry)
        if verdict & _BLOCKS and stat.S_ISREG(entry.mode):
            return (
                Large(at, entry, whole=False)
                if base is None
                else draft_patch(fd, at, entry, base, always=bool(verdict & _META))
            )
        if verdict & (_WHOLE | _LINK):
            return draft(fd, at, entry)
        attributes = setattr_record(fd, at, entry)
        if is_shared(entry):
            now = self._source.trees[at.root].entry(fd, entry.name)
            if now is None or (now.dev, now.ino) != (entry.dev, entry.ino):
                return draft(fd, at, entry)  # another file by now: its attributes are not those of all the names
        return Drafted([attributes], entry)

    def _confirmed(self, fd: int, place: Place, names: list[bytes]) -> list[bytes]:
        """The names among the replica's extra ones that the source really lacks, and that the rule protects. A
        directory that came since is mirrored, too: who knows what the replica has beneath its name."""
        gone, back = self._extra.confirmed(fd, place, names)
        for at, is_dir in back:
            # It may move on before its hint is seen, and leave there what others put on the replica.
            self.unsettled.append(self._source.catalog.doubt_at(at))
            if is_dir:
                self._deeper.append(Scope(at))
        return gone

    def _count(self, entries: Sequence[Entry]) -> None:
        """The mirror is done with these."""
        sizes = [entry.size for entry in entries if stat.S_ISREG(entry.mode)]
        self._source.status.checked_bytes += sum(sizes)
        self._source.status.checked_files += sum([not stat.S_ISDIR(entry.mode) for entry in entries])


def _is_another(entry: Entry, row: Row | None) -> bool:
    """True when a file with several names was not sent under this one."""
    return is_shared(entry) and (row is None or not row.is_object(entry))


def _xattr_bytes(record: Record) -> int:
    pairs = record.meta.xattrs if record.meta is not None else None
    return sum(len(name) + len(value) for name, value in pairs) if pairs else 0
