"""Walks the source and cuts what it sees into frames of a listing, a few at a time, whatever the size of the tree."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from i2core.api import Entry, Place
from i2core.api.changes import join
from i2core.api.entries import GONE
from i2core.rule.mirror.links import LinkTable
from i2core.rule.reading.source import Source
from i2core.wire.listing import Chunk

CHUNK_ENTRIES = 1000
FIRST_FRAME_ENTRIES = 64
"""The first listing is short, so that the first bytes leave at once."""
FRAME_ENTRIES = 2000
CHUNK_BYTES = 2 * 1024 * 1024
"""Names, link texts and paths also count: neither a listing nor a batch may outgrow a frame."""
PATH_BYTES = 0xFFFF
"""The longest path that a record or a listing can hold."""
_NAME_MOST = 4096
"""No system call takes a longer name (PATH_MAX), whatever a file system may hold."""
_TYPE, _DIRECTORY, _REGULAR = 0o170000, stat.S_IFDIR, stat.S_IFREG


class Scope(NamedTuple):
    """A directory to be mirrored; with all beneath it when `deep`."""

    place: Place
    deep: bool = True


class Lister:
    """Lists scopes of one mirror; remembers on disk which files with several names it has listed."""

    def __init__(self, source: Source, *, strict: bool) -> None:
        self._source = source
        self._strict = strict
        self._links = LinkTable()
        self.missed: set[Place] = set()
        """Places that moved on meanwhile; see `Mirror.missed`."""

    def close(self) -> None:
        """Forgets the files with several names."""
        self._links.close()

    def miss(self, place: Place, error: OSError) -> None:
        """A directory cannot be read, or is gone.

        Raises:
            StopRule: it is there, and the rule says to stop.
        """
        if error.errno in GONE:
            self.missed.add(place)
        else:
            self._source.unreadable(place, error)

    def frames(self, scopes: Iterable[Scope]) -> Iterator[list[Chunk]]:
        """The directories of the scopes, parents before children, in chunks that fill a frame each. Each frame is read
        when it is asked for.

        Raises:
            StopRule: a directory cannot be read, and the rule says to stop.
        """
        frame: list[Chunk] = []
        entries = size = 0
        limit = FIRST_FRAME_ENTRIES
        for chunk in self._chunks(scopes):
            frame.append(chunk)
            entries += len(chunk.entries) + 1
            size += len(chunk.path) + _text_bytes(chunk)
            if entries >= limit or size >= CHUNK_BYTES:
                yield frame
                frame, entries, size, limit = [], 0, 0, FRAME_ENTRIES
        if frame:
            yield frame

    def _chunks(self, scopes: Iterable[Scope]) -> Iterator[Chunk]:
        stack = list(reversed(list(scopes)))
        while stack:
            place, deep = stack.pop()
            below: list[Scope] = []
            try:
                with self._source.trees[place.root].directory(place.path) as fd:
                    yield from self._directory(fd, place, below)
            except OSError as error:
                self.miss(place, error)
            if deep:
                stack += reversed(below)

    def _directory(self, fd: int, place: Place, below: list[Scope]) -> Iterator[Chunk]:
        tree = self._source.trees[place.root]
        here = tree.here(fd)
        before: Chunk | None = None
        for entries in tree.listing(fd, at_root=not place.path, most=CHUNK_ENTRIES):
            if before is not None:
                yield from _fitting(before)
            kept = self._wanted(place, entries)
            links = self._note(place, kept, below)
            before = Chunk(place.root, place.path, here, before is None, False, self._strict, kept, links)
        if before is None:
            before = Chunk(place.root, place.path, here, True, True, self._strict, ())
        yield from _fitting(before._replace(last=True))

    def _wanted(self, place: Place, entries: list[Entry]) -> list[Entry]:
        """What the rule protects, and a path can name."""
        source = self._source
        room = PATH_BYTES - len(place.path) - 1
        if source.filter.empty and room >= _NAME_MOST:
            return entries
        kept = []
        for entry in entries:
            at = place.child(entry.name)
            if not source.wants(at, stat.S_ISDIR(entry.mode)):
                continue
            if len(entry.name) > room:
                source.unreadable(at, OSError(errno.ENAMETOOLONG, "the path is too long"))
                continue
            kept.append(entry)
        return kept

    def _note(self, place: Place, entries: list[Entry], below: list[Scope]) -> dict[int, bytes]:
        """Counts the entries, notes the directories among them in `below`, and tells which have an earlier name."""
        links: dict[int, bytes] = {}
        directories = content = 0
        for index, entry in enumerate(entries):
            kind = entry.mode & _TYPE
            if kind == _REGULAR:
                content += entry.size
                if entry.nlink > 1:
                    link = self._links.first(place.root, entry, join(place.path, entry.name))
                    if link is not None:
                        links[index] = link
            elif kind == _DIRECTORY:
                directories += 1
                below.append(Scope(place.child(entry.name)))
        self._source.status.listed_files += len(entries) - directories
        self._source.status.listed_bytes += content
        return links


def _fitting(chunk: Chunk) -> Iterator[Chunk]:
    """The chunk in parts that do not outgrow a frame: a link's path may have 64 KiB."""
    if _text_bytes(chunk) <= CHUNK_BYTES or len(chunk.entries) < 2:
        yield chunk
        return
    half = len(chunk.entries) // 2
    links = {index: link for index, link in chunk.links.items() if index < half}
    yield from _fitting(chunk._replace(last=False, entries=chunk.entries[:half], links=links))
    links = {index - half: link for index, link in chunk.links.items() if index >= half}
    yield from _fitting(chunk._replace(first=False, entries=chunk.entries[half:], links=links))


def _text_bytes(chunk: Chunk) -> int:
    names = sum([len(entry.name) + len(entry.target) for entry in chunk.entries])
    return names + sum(map(len, chunk.links.values()))
