"""Names that only the replica has: checked once more on the source, then sent to the backup node as orphans."""

from __future__ import annotations

import stat
from collections.abc import Sequence

from i2core.api import Entry, Place
from i2core.api.changes import join
from i2core.api.tree import OpenDirectory
from i2core.rule.source.source import Source
from i2core.rule.survey.survey import Questions, ask_about
from i2core.wire.frame import FrameType
from i2core.wire.listing import CHUNK_HEAD_BYTES, Chunk, Verdict
from i2core.wire.message_size import MESSAGE_BYTES, parts
from i2core.wire.questions import NamesQuery, OrphanList, decode_names

ASKED_AT_ONCE = 1000
"""Directories of orphans in one question."""
_WHOLE = int(Verdict.WHOLE)
UNKNOWN = Entry(b"", stat.S_IFDIR, 0, 0, 0, 0)
"""A directory that is asked about, and has attributes that do not matter."""


class OrphanFinder:
    """Finds the names that only the replica has, for one mirror run."""

    def __init__(self, source: Source, session: Questions) -> None:
        self._source = source
        self._session = session

    def confirmed(
        self, directory: OpenDirectory, place: Place, names: Sequence[bytes]
    ) -> tuple[list[bytes], list[tuple[Place, bool]]]:
        """Of the replica's extra names in a directory: those that the source really lacks and the rule protects; and
        those that were created on the source since, each with whether it is a directory."""
        only = None if place.path else self._source.trees[place.root].only
        gone: list[bytes] = []
        back: list[tuple[Place, bool]] = []
        for name in names:
            if only not in (None, name):
                continue
            at = place.child(name)
            entry = directory.entry(name)
            if entry is None:
                if self._covers(at):
                    gone.append(name)
            elif self._source.wants(at, is_dir := stat.S_ISDIR(entry.mode)):
                back.append((at, is_dir))
        return gone, back

    async def send(self, orphans: OrphanList) -> bool:
        """Sends the orphans to the backup node, which handles them as the rule says. False: all of them stay, since
        excluded names are beneath them.

        Raises:
            LinkError: the link broke.
        """
        parts = await self.separate(orphans)
        for part in parts:
            for some in part.fitting():
                await self._session.ask(FrameType.ORPHANS, some.encode())
        return bool(parts)

    def pages(self, place: Place) -> NamePages:
        """All names that the replica has in a directory, a page at a time.

        Raises:
            LinkError: the link broke.
        """
        return NamePages(self, place)

    async def page(self, place: Place, *, first: bool) -> list[bytes]:
        """The first page of the replica's names in a directory, or the next one; empty after the last.

        Raises:
            LinkError: the link broke.
        """
        return decode_names(await self._session.ask(FrameType.NAMES, NamesQuery(*place, first).encode()))

    async def names_in(self, root: int, paths: Sequence[bytes]) -> list[tuple[bytes, Sequence[bytes]]]:
        """Those of the paths that are directories on the replica, each with all names in it.

        Raises:
            LinkError: the link broke.
        """
        found: list[tuple[bytes, Sequence[bytes]]] = []
        for asked in parts(paths, _chunk_bytes, most_size=MESSAGE_BYTES, most_items=ASKED_AT_ONCE):
            chunks = [Chunk(root, path, UNKNOWN, True, True, False, ()) for path in asked]
            for path, answer in zip(asked, await ask_about(self._session, chunks), strict=True):
                if not answer.here & _WHOLE:
                    there = await self.pages(Place(root, path)).joined() if answer.more else answer.orphans
                    found.append((path, there))
        return found

    async def separate(self, orphans: OrphanList) -> list[OrphanList]:
        """The orphans without names that the rule excludes. If an orphan directory has an excluded name beneath it,
        that name stays, and the names beside it become orphans one by one.

        Raises:
            LinkError: the link broke.
        """
        if self._source.filter.empty:
            return [orphans]
        root, found, kept = orphans.root, [orphans], set[bytes]()
        level = [join(orphans.path, name) for name in orphans.names]
        while level:
            asked, level = level[:ASKED_AT_ONCE], level[ASKED_AT_ONCE:]
            for path, there in await self.names_in(root, asked):
                names = [name for name in there if self._covers(Place(root, join(path, name)))]
                found.append(OrphanList(root, path, names))
                level += [join(path, name) for name in names]
                above = path if len(names) < len(there) else orphans.path
                while above != orphans.path:
                    kept.add(above)
                    above = above.rpartition(b"/")[0]
        separate = [
            OrphanList(root, path, [name for name in names if join(path, name) not in kept])
            for _, path, names in found
            if path == orphans.path or path in kept
        ]
        return [part for part in separate if part.names]

    def _covers(self, at: Place) -> bool:
        """True when the rule protects the name both as a file and as a directory: its type on the replica is not known
        here, and a name that any exclusion covers is left alone."""
        return self._source.wants(at, is_dir=False) and self._source.wants(at, is_dir=True)


class NamePages:
    """The pages of names of one directory, asked for one by one: a directory may have millions of names."""

    def __init__(self, finder: OrphanFinder, place: Place) -> None:
        self._finder = finder
        self._place = place
        self._first = True

    def __aiter__(self) -> NamePages:
        return self

    async def __anext__(self) -> list[bytes]:
        names = await self._finder.page(self._place, first=self._first)
        self._first = False
        if not names:
            raise StopAsyncIteration
        return names

    async def joined(self) -> list[bytes]:
        """All of them at once."""
        return [name async for names in self for name in names]


def _chunk_bytes(path: bytes) -> int:
    return CHUNK_HEAD_BYTES + len(path)
