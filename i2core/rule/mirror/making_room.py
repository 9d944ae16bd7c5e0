"""Makes room on a replica whose disk is full. Before anything new is sent, names that the source lacks are handled as
the rule's orphans, and so is what is in the place of an object of another type; files that are shorter on the source
are truncated. A repair does the same with unverified names, and removes what it may (`repair.making_room`).

A mirror goes through the tree in order. It may fill the disk long before it reaches the directory in which something is
to be removed. So after a full disk this pass comes first, and then the mirror runs again. The pass notes nothing in the
catalog, since the mirror compares everything it touches once more.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence
from itertools import compress

import trio

from i2core.api import BLOCK_BYTES, Entry, Kind, Place, Record
from i2core.api.changes import join
from i2core.api.tree import OpenDirectory
from i2core.posix.errnos import GONE
from i2core.rule.mirror.bring import Link
from i2core.rule.mirror.orphans import UNKNOWN, OrphanFinder
from i2core.rule.source.source import Source
from i2core.rule.survey.findings import Findings
from i2core.rule.survey.lister import Scope
from i2core.rule.survey.survey import Survey, ask_about
from i2core.wire.frame import FrameType
from i2core.wire.listing import Chunk, ChunkVerdicts, Verdict
from i2core.wire.questions import HashQuery, OrphanList

_BLOCKS, _WHOLE = int(Verdict.BLOCKS), int(Verdict.WHOLE)


async def make_room(source: Source, session: Link, scopes: Iterable[Scope], room: Room | None = None) -> None:
    """Goes through the scopes; returns when all is sent that removes something (not yet durable).

    Raises:
        LinkError: the link broke.
        StopRule: a directory cannot be read and the rule says to stop.
    """
    survey, room = Survey(source, session, Findings(source), strict=False), room or Room(source, session)
    try:
        async with survey.frames(scopes) as frames:
            async for frame in frames:
                for chunk, answer in zip(frame.chunks, await frame.verdicts(), strict=True):
                    await room.make(chunk, answer)
    finally:
        survey.close()


class Room:
    """One pass over a replica, for a mirror."""

    def __init__(self, source: Source, session: Link) -> None:
        self._source = source
        self._session = session
        self._finder = OrphanFinder(source, session)

    async def dispose(self, orphans: OrphanList) -> None:
        """Handles names of the replica that make room.

        Raises:
            LinkError: the link broke.
        """
        await self._finder.send(orphans)

    def confirmed(self, directory: OpenDirectory, place: Place, names: Sequence[bytes]) -> list[bytes]:
        """Those of the names in a directory that only the replica has, for `dispose`."""
        return self._finder.confirmed(directory, place, names)[0]

    async def make(self, chunk: Chunk, answer: ChunkVerdicts) -> None:
        """Sends what makes room in one listed part of a directory.

        Raises:
            LinkError: the link broke.
        """
        place = Place(chunk.root, chunk.path)
        for entry, verdict in zip(chunk.entries, answer.verdicts, strict=True):
            if verdict & _BLOCKS and await self._is_longer(place.child(entry.name), entry.size):
                # The truncation changes its time, so the mirror finds it different in any case.
                cut = Record(Kind.TRUNCATE, place.root, join(place.path, entry.name), size=entry.size)
                await self._session.send_records([cut])
        whole = [bool(verdict & _WHOLE) for verdict in answer.verdicts]
        await self._make_way(place, list(compress(chunk.entries, whole)))
        await self._remove(place, answer.orphans)
        if answer.more:
            async for names in self._finder.pages(place):
                await self._remove(place, names)

    async def _is_longer(self, place: Place, size: int) -> bool:
        """True when the replica's file has blocks beyond this size."""
        beyond = HashQuery(place.root, place.path, -(-size // BLOCK_BYTES), 1)
        return bool(await self._session.ask(FrameType.HASHES, beyond.encode()))

    async def _make_way(self, place: Place, entries: Sequence[Entry]) -> None:
        """Handles as orphans what the replica has in the place of these entries, of another type, and takes space: a
        file in the place of a directory, a link or a special file, and what is in a directory."""
        others = [entry for entry in entries if not stat.S_ISREG(entry.mode)]
        if others:
            # Asked about as if they were large files: the verdict on what is a file on the replica is to compare it.
            files = [entry._replace(mode=stat.S_IFREG | 0o600, size=1 << 62, target=b"") for entry in others]
            (answer,) = await ask_about(self._session, [Chunk(*place, UNKNOWN, True, False, False, files)])
            is_file = [bool(verdict & _BLOCKS) for verdict in answer.verdicts]
            await self._send_orphans(place, [entry.name for entry in compress(others, is_file)])
        paths = [join(place.path, entry.name) for entry in entries if not stat.S_ISDIR(entry.mode)]
        for path, names in await self._finder.names_in(place.root, paths):
            await self._send_orphans(Place(place.root, path), names)

    async def _send_orphans(self, place: Place, names: Sequence[bytes]) -> None:
        if names:
            await self.dispose(OrphanList(*place, names))

    async def _remove(self, place: Place, names: Sequence[bytes]) -> None:
        if names:
            await self._send_orphans(place, await trio.to_thread.run_sync(self._confirmed, place, names))

    def _confirmed(self, place: Place, names: Sequence[bytes]) -> list[bytes]:
        """Those of the names that the source lacks now."""
        try:
            with self._source.trees[place.root].directory(place.path) as directory:
                return self.confirmed(directory, place, names)
        except OSError as error:
            if error.errno not in GONE:
                self._source.unreadable(place, error)
            return []
