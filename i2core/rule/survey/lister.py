"""Walks the source and splits the listing into frames, a few at a time, whatever the size of the tree."""

from __future__ import annotations

import errno
import stat
import sys
from collections.abc import Container, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple

from i2core.api import Entry, Place
from i2core.api.changes import join
from i2core.api.tree import AttributesUnreadable, OpenDirectory
from i2core.posix.errnos import PASSING
from i2core.rule.source.source import Source
from i2core.rule.survey.findings import Findings
from i2core.rule.survey.links import LinkTable
from i2core.wire.listing import Chunk, chunk_bytes

CHUNK_ENTRIES = 1000
FIRST_FRAME_ENTRIES = 64
"""The first listing is short, so that the first bytes are sent at once."""
FRAME_ENTRIES = 2000
CHUNK_BYTES = 2 * 1024 * 1024
"""A chunk ends, and a frame is sent, after so many bytes of names, link texts and paths. So a frame has less than twice
that plus one entry: half of the limit of a message."""
PAUSES = 8
"""How often to wait for a directory that cannot be opened at the moment; after that it is unverified and compared
later."""
PATH_BYTES = 0xFFFF
"""The longest path that a record or a listing can hold."""
_NAME_MOST = 4096
"""No system call accepts a longer name (PATH_MAX), whatever a file system can store."""
_TYPE, _DIRECTORY, _REGULAR = 0o170000, stat.S_IFDIR, stat.S_IFREG


class Scope(NamedTuple):
    """A directory to be surveyed; with all beneath it when `deep`."""

    place: Place
    deep: bool = True
    names: frozenset[bytes] | None = None
    """Without `deep`: only these entries; None: all."""


def is_within(place: Place, tops: Container[Place]) -> bool:
    """True when the place is one of `tops`, or beneath one of them. However many they are, this costs the depth of the
    place."""
    while place not in tops:
        if not place.path:
            return False
        place = place.above
    return True


class Lister:
    """Lists scopes of one survey; remembers on disk which files with several names it has listed."""

    def __init__(self, source: Source, findings: Findings, *, strict: bool, content_most: int = sys.maxsize) -> None:
        """`content_most`: a frame ends, and a directory is divided, where the files in it have so many bytes together;
        of a larger file only so many count."""
        self._content_most = content_most
        self._source = source
        self._findings = findings
        self._strict = strict
        self._links = LinkTable()

    def close(self) -> None:
        """Forgets the files with several names."""
        self._links.close()

    def frames(self, scopes: Iterable[Scope]) -> Generator[list[Chunk], None, None]:
        """The directories of the scopes, parents before children, in chunks that fill a frame each. Each frame is read
        when it is requested. In between the directory stays open, so the caller closes the generator. An empty frame
        means that descriptors or memory are exhausted for the moment: the caller waits before requesting the next one.

        Raises:
            StopRule: a directory cannot be read, and the rule says to stop.
            OSError: a root cannot be read because of a passing error.
        """
        frame: list[Chunk] = []
        entries = size = content = 0
        limit = FIRST_FRAME_ENTRIES
        for chunk in self._chunks(scopes):
            if chunk is None:
                yield []
                continue
            frame.append(chunk)
            entries += len(chunk.entries) + 1
            size += chunk_bytes(chunk)
            content += self._content(chunk.entries)
            if entries >= limit or size >= CHUNK_BYTES or content >= self._content_most:
                yield frame
                frame, entries, size, content, limit = [], 0, 0, 0, FRAME_ENTRIES
        if frame:
            yield frame

    def next_frame(self, frames: Iterator[list[Chunk]]) -> list[Chunk] | None:
        """The next one of `frames`; None after the last. For worker threads."""
        with self._source.job():
            return next(frames, None)

    def _chunks(self, scopes: Iterable[Scope]) -> Iterator[Chunk | None]:
        """Chunks; None in between when a directory cannot be opened at the moment."""
        stack, pauses = list(reversed(list(scopes))), 0
        while stack:
            place, deep, names = stack.pop()
            below: list[Scope] = []
            begun = False
            try:
                with self._source.trees[place.root].directory(place.path) as directory:
                    begun, pauses = True, 0
                    if names is None:
                        yield from self._whole(directory, place, below)
                    else:
                        yield from self._named(directory, place, names)
            except OSError as error:
                if error.errno in PASSING and not begun and pauses < PAUSES:
                    pauses += 1
                    stack.append(Scope(place, deep, names))
                    yield None
                    continue
                self._findings.failed(place, error)
            if deep:
                stack += reversed(below)

    def _whole(self, directory: OpenDirectory, place: Place, below: list[Scope]) -> Iterator[Chunk]:
        """All entries of a directory."""
        self._source.name_flags(place, directory)
        here = directory.here()
        before: Chunk | None = None

        def unread(error: AttributesUnreadable) -> None:
            if error.errno in PASSING:
                raise error
            self._findings.unreadable(place, error)

        listed = (part for entries in directory.listing(CHUNK_ENTRIES, unread) for part in self._divided(entries))
        for entries in listed:
            if before is not None:
                yield from _fitting(before)
            kept = self._wanted(place, entries)
            links = self._note(place, kept, below)
            before = Chunk(place.root, place.path, here, before is None, False, self._strict, kept, links)
        if before is None:
            before = Chunk(place.root, place.path, here, True, True, self._strict, ())
        yield from _fitting(before._replace(last=True))

    def _divided(self, entries: list[Entry]) -> Iterator[list[Entry]]:
        """The entries in parts of at most `content_most` bytes of content, or of one entry."""
        if len(entries) > 1 and self._content(entries) > self._content_most:
            half = len(entries) // 2
            yield from self._divided(entries[:half])
            yield from self._divided(entries[half:])
        else:
            yield entries

    def _content(self, entries: Sequence[Entry]) -> int:
        most = self._content_most
        if most == sys.maxsize:
            return 0
        return sum([min(entry.size, most) for entry in entries if entry.mode & _TYPE == _REGULAR])

    def _named(self, directory: OpenDirectory, place: Place, names: Iterable[bytes]) -> Iterator[Chunk]:
        """Some entries of a directory; never marked as its last chunk, so other names are not taken for missing."""
        here, first, rest = directory.here(), True, sorted(names)
        while rest or first:
            part, rest = rest[:CHUNK_ENTRIES], rest[CHUNK_ENTRIES:]
            found = [entry for name in part if (entry := directory.entry(name)) is not None]
            kept = self._wanted(place, found)
            links = self._note(place, kept, [])
            for chunk in _fitting(Chunk(place.root, place.path, here, first, True, self._strict, kept, links)):
                yield chunk._replace(last=False)
            first = False

    def _wanted(self, place: Place, entries: list[Entry]) -> list[Entry]:
        """The entries that the rule protects and whose path is not too long."""
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
        """Counts the entries, adds directories to `below`, and returns which entries have an earlier listed name."""
        links: dict[int, bytes] = {}
        directories = content = 0
        for index, entry in enumerate(entries):
            kind = entry.mode & _TYPE
            if kind == _DIRECTORY:
                directories += 1
                below.append(Scope(place.child(entry.name)))
                continue
            if kind == _REGULAR:
                content += entry.size
            if entry.nlink > 1:
                link = self._links.first(place.root, entry, join(place.path, entry.name))
                if link is not None:
                    links[index] = link
        self._source.status.listed_files += len(entries) - directories
        self._source.status.listed_bytes += content
        return links


def _fitting(chunk: Chunk) -> Iterator[Chunk]:
    """The chunk in parts that fit in a frame: the path of a link may have 64 KiB."""
    if chunk_bytes(chunk) <= CHUNK_BYTES or len(chunk.entries) < 2:
        yield chunk
        return
    half = len(chunk.entries) // 2
    links = {index: link for index, link in chunk.links.items() if index < half}
    yield from _fitting(chunk._replace(last=False, entries=chunk.entries[:half], links=links))
    links = {index - half: link for index, link in chunk.links.items() if index >= half}
    yield from _fitting(chunk._replace(first=False, entries=chunk.entries[half:], links=links))
