"""Answers the work node's questions about the replica: what differs from a listing, digests of files, names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from i2core.api import BLOCK_BYTES, Ask, Channel, Entry, NamePages, Place, ProtocolError, Seen, Sink
from i2core.api.changes import join
from i2core.rule.backup.session.compare import Comparison, Path, is_guarded, same_meta
from i2core.rule.backup.session.leftovers import Leftovers
from i2core.rule.backup.session.session_roots import SessionRoots
from i2core.rule.backup.session.unlisted import Room, Tally, Unlisted
from i2core.rule.backup.session.writer import ReplicaWriter
from i2core.wire.listing import INLINE_BLOCKS, ChunkVerdicts, ReceivedChunk, Verdict
from i2core.wire.message_size import parts
from i2core.wire.questions import Examined, ExamineQuery, HashQuery, NamesQuery

MOST_PAGED = 4
"""Directories whose names are sent page by page at the same time. A work node needs two: one, and one beneath it."""
SLICE = 500
"""Directories and entries of a SURVEY that are answered at once: some 20 ms of work, most of it in a worker thread. A
work node sends at most 2000 in a frame, and a thousand of one directory."""
DIGESTS_BYTES = 64 << 20
"""Most content that is read at once for digests of small files."""
_BLOCKS = int(Verdict.BLOCKS)


class CompareServer:
    """Answers the questions of one session. Its memory between questions is bounded, whatever is asked."""

    def __init__(self, sink: Sink, writer: ReplicaWriter, roots: SessionRoots, channel: Channel) -> None:
        mirrors = channel is Channel.MIRROR
        self._sink = sink
        self._unflushed = writer.unflushed
        self._roots = roots
        self._comparison = Comparison(owns=sink.owns)
        self._unlisted = Unlisted()
        self._leftovers = None if channel is Channel.COMPARE else Leftovers(writer, mirrors=mirrors)
        """None: the session changes nothing."""
        self._mirrors = mirrors
        self._pages = OpenPages(sink)

    def close(self) -> None:
        """Closes the directories that are open between two questions."""
        self._pages.close()

    async def survey(self, chunks: Sequence[ReceivedChunk]) -> list[ChunkVerdicts]:
        """What each chunk needs, in order. They are answered in slices: in between, others get their turn, and a
        session that has ended stops here.

        A message may begin a directory twice. A work node's own does so when the file system reports a name twice,
        because the directory changes while it is read."""
        room = Room()
        judged: list[ChunkVerdicts] = []
        for some in parts(chunks, lambda chunk: len(chunk.names) + 1, most_size=SLICE):
            judged += await self._slice(some, room)
            await trio.lowlevel.checkpoint()
        return judged

    async def _slice(self, chunks: Sequence[ReceivedChunk], room: Room) -> list[ChunkVerdicts]:
        """As `survey`; the replica is read with one call for each kind of question. `room`: for the names of the whole
        answer."""
        places = [self._roots.checked(Place(chunk.root, chunk.path)) for chunk in chunks]
        asks = [
            Ask(place, chunk.names, every=chunk.first, whole=self._mirrors)
            for place, chunk in zip(places, chunks, strict=True)
        ]
        seen = await self._sink.look(asks)
        heads = await self._heads(chunks)
        judged = []
        for place, chunk, there in zip(places, chunks, seen, strict=True):
            names = await self._tally(place) if there.names is None else there.names
            extra = self._unlisted.listed(chunk, there.entries, names, room)
            judged.append(self._judge(chunk, there, heads)._replace(orphans=extra.names, more=extra.more))
        if self._leftovers is not None:
            await self._remove_leftovers(self._leftovers, chunks, seen, judged)
        await self._add_digests(chunks, judged)
        return judged

    async def _remove_leftovers(
        self, leftovers: Leftovers, chunks: Sequence[ReceivedChunk], seen: Sequence[Seen], judged: list[ChunkVerdicts]
    ) -> None:
        for number, (chunk, there) in enumerate(zip(chunks, seen, strict=True)):
            if await leftovers.listed(chunk, judged[number], leftovers=there.leftovers):
                judged[number] = judged[number]._replace(here=Verdict.META)
                self._unflushed.note()

    async def digests(self, query: HashQuery) -> bytes:
        """The digests of a file's blocks, encoded."""
        place = self._roots.checked(Place(query.root, query.path))
        if query.runs:
            found = await self._sink.block_map(place, query.first, query.blocks, staged=query.staged)
            return found.encode()
        return await self._sink.hashes(place, query.first, query.blocks, staged=query.staged)

    async def examined(self, query: ExamineQuery) -> list[Examined | None]:
        """What the replica has under each of the names; or, without names, the directory itself."""
        place = self._roots.checked(Place(query.root, query.path))
        (seen,) = await self._sink.look([Ask(place, query.names)])
        entries = seen.entries if query.names else [seen.here]
        born = await self._sink.born(place, query.names) if query.names else [0]
        return [
            None
            if entry is None
            else Examined(
                entry.mode, entry.uid, entry.gid, entry.size, entry.mtime_ns, entry.nlink, entry.xattrs, born_ns
            )
            for entry, born_ns in zip(entries, born, strict=True)
        ]

    async def names(self, query: NamesQuery) -> list[bytes]:
        """The next page of a directory's names."""
        return await self._pages.next(self._roots.checked(Place(query.root, query.path)), first=query.first)

    async def _heads(self, chunks: Sequence[ReceivedChunk]) -> dict[Path, Entry | None]:
        """The replica's entries at the first names of hard links."""
        wanted = sorted({(chunk.root, link) for chunk in chunks for link in chunk.links()})
        if not wanted:
            return {}
        asks = []
        for root, link in wanted:
            above, _, name = link.rpartition(b"/")
            asks.append(Ask(Place(root, above), [name]))
        seen = await self._sink.look(asks)
        return {path: answer.entries[0] for path, answer in zip(wanted, seen, strict=True)}

    def _judge(self, chunk: ReceivedChunk, seen: Seen, heads: Mapping[Path, Entry | None]) -> ChunkVerdicts:
        verdicts = bytearray(len(chunk.names))
        every = range(len(verdicts))
        asked = every if chunk.strict else chunk.differing(seen.entries, owners=self._sink.owns)
        guarded = seen.here is not None and is_guarded(seen.here) and seen.sheltered
        for index in asked:
            listed = chunk.listed(index)
            at: Path = (chunk.root, join(chunk.path, listed.entry.name))
            head = None if listed.link is None else heads[chunk.root, listed.link]
            verdicts[index] = self._comparison.judge(
                at,
                listed,
                seen.entries[index],
                head,
                strict=chunk.strict,
                times=seen.times,
                flags=seen.flags,
                guarded=guarded,
                own=seen.own,
            )
        here = Verdict.WHOLE
        if seen.here is not None:
            same = same_meta(chunk.here, seen.here, owns=self._sink.owns, times=seen.times, flags=seen.flags)
            here = Verdict.SAME if same else Verdict.META
        return ChunkVerdicts(here, bytes(verdicts), {}, [])

    async def _add_digests(self, chunks: Sequence[ReceivedChunk], judged: Sequence[ChunkVerdicts]) -> None:
        """Adds digests to the verdicts for small files whose blocks are to be compared."""
        small = [
            (number, index)
            for number, (chunk, answer) in enumerate(zip(chunks, judged, strict=True))
            if any(answer.verdicts)
            for index, verdict in enumerate(answer.verdicts)
            if verdict & _BLOCKS and chunk.size(index) <= INLINE_BLOCKS * BLOCK_BYTES
        ]
        if not small:
            return
        places = [
            Place(chunks[number].root, join(chunks[number].path, chunks[number].names[index]))
            for number, index in small
        ]
        found: list[bytes] = []
        for some in parts(places, lambda _: INLINE_BLOCKS * BLOCK_BYTES, most_size=DIGESTS_BYTES):
            found += await self._sink.hashes_of(some, INLINE_BLOCKS)
        for (number, index), digests in zip(small, found, strict=True):
            judged[number].digests[index] = digests

    async def _tally(self, place: Place) -> Tally:
        """The tally of a directory with very many names."""
        tally, pages = Tally(), await self._sink.names(place)
        try:
            while names := await pages.next():
                tally.add(names)
        finally:
            pages.close()
        return tally


class OpenPages:
    """The directories whose names are being sent page by page."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._open: dict[Place, NamePages] = {}

    async def next(self, place: Place, *, first: bool) -> list[bytes]:
        """The next page of the directory, or its first one; empty after the last.

        Raises:
            ProtocolError: there was no first page.
        """
        if first:
            self._end(place)
            if len(self._open) == MOST_PAGED:
                self._end(next(iter(self._open)))
            self._open[place] = await self._sink.names(place)
        elif place not in self._open:
            raise ProtocolError("a further page of names was requested without a first one")
        names = await self._open[place].next()
        if not names:
            self._end(place)
        return names

    def close(self) -> None:
        """Closes all."""
        for place in list(self._open):
            self._end(place)

    def _end(self, place: Place) -> None:
        pages = self._open.pop(place, None)
        if pages is not None:
            pages.close()
