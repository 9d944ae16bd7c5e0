"""Objects with several names: under which names a run has sent them.

A listed name may belong to another file, or be gone, by the time the file is read. Then a name listed later as a link
to it must not become a link to the wrong file.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import NamedTuple

from i2core.api import Entry, Place
from i2core.api.records import UNREADABLE
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.catalog.rows import Row
from i2core.rule.survey.findings import Findings, Why
from i2core.wire.listing import Chunk


def is_shared(entry: Entry) -> bool:
    """True for an object with several names that is not a directory."""
    return entry.nlink > 1 and not stat.S_ISDIR(entry.mode)


def _is_one(one: Entry, two: Entry) -> bool:
    return (one.dev, one.ino) == (two.dev, two.ino)


class Sent(NamedTuple):
    """A name under which an object was sent, and in which state."""

    path: bytes
    state: Entry | Row

    def linked(self, entry: Entry) -> Entry:
        """What the replica has when the name of `entry` is a link to this one: the object in the state in which it was
        sent. It may have changed since: the change was reported under any of its names, and is found only if the
        catalog does not claim that it was sent already."""
        state = self.state
        return entry._replace(
            mode=state.mode,
            uid=state.uid,
            gid=state.gid,
            size=state.size,
            mtime_ns=state.mtime_ns,
            ctime_ns=state.ctime_ns,
            xattrs=state.xattrs & UNREADABLE,
            flags=state.flags,
        )


class SharedFiles:
    """The files with several names of one run. `certain`: the catalog is right about the replica; otherwise its rows
    may be unverified themselves."""

    def __init__(self, catalog: Catalog, findings: Findings, *, certain: bool) -> None:
        self._catalog = catalog
        self._findings = findings
        self._certain = certain
        self._missed: set[Place] = set()

    def miss(self, *places: Place) -> None:
        """Notes that the file listed at these places was replaced, or gone, before it was sent."""
        self._missed.update(places)

    def is_missed(self, at: Place, first: bytes | None) -> bool:
        """True when the file listed at `at` was to be sent under its first listed name `first`, and was not."""
        return first is not None and Place(at.root, first) in self._missed

    def agree(self, place: Place, chunk: Chunk) -> bool:
        """True when a chunk that compared equal is also right about which of its names are one file with others."""
        if any(self.is_missed(place, link) for link in chunk.links.values()):
            return False
        return self._certain or not any(is_shared(entry) for entry in chunk.entries)

    def is_apart(self, at: Place, entry: Entry, row: Row | None, first: bytes | None) -> bool:
        """True when the replica may not have the name `at` as a link to the file's other names: it was not sent under
        this name, or it was sent separately under another one. Example: a link that was made while a mirror was
        listing. `first`: the first listed name, with which this one was compared. They are one on the replica."""
        if self._certain or not is_shared(entry):
            return False
        if row is None or not row.is_object(entry):
            return True
        others = () if first is not None else self._catalog.names.apart(row, at.root)
        return any(self._catalog.objects.place(other).root == at.root for other in others)

    def sent_as(
        self, at: Place, entry: Entry, first: bytes | None, kept: Sequence[tuple[Entry, Row | None]]
    ) -> Sent | None:
        """The name under which this very file was sent: the first listed one, unless that belonged to another file when
        it was sent; or a name that it got since it was listed. None: it has not been sent. `kept`: entries of this
        directory that are sent and not in the catalog yet."""
        above = at.above
        # This is the usual case. Searching all names each time would cost the square of their number.
        if first is not None and not self.is_missed(at, first):
            sent = self._sent_first(at, entry, first, kept)
            if sent is not None:
                return sent
        same = [Sent(above.child(each.name).path, each) for each, _ in kept if _is_one(each, entry)]
        if self._certain:
            same += [Sent(place.path, row) for row, place in self._other_names(at, entry).items()]
        return same[0] if same else None

    def _sent_first(
        self, at: Place, entry: Entry, first: bytes, kept: Sequence[tuple[Entry, Row | None]]
    ) -> Sent | None:
        """The name that was listed first, if this very file was sent under it."""
        above, _, name = first.rpartition(b"/")
        if above == at.above.path:
            for each, _ in kept:
                if each.name == name and _is_one(each, entry):
                    return Sent(first, each)
        row = self._catalog.objects.get(Place(at.root, first))
        return Sent(first, row) if row is not None and row.is_object(entry) else None

    def mark_resent(self, at: Place, entry: Entry) -> None:
        """A file is sent as a new one under one of its names: until the others are linked to it, they are another file
        on the replica. A run that is certain reaches the other names itself."""
        for row in self._other_names(at, entry):
            self._catalog.doubts.distrust(row)
        if not self._certain:
            self._findings.add(at, Why.RESENT)

    def _other_names(self, at: Place, entry: Entry) -> dict[Row, Place]:
        """The other places beneath the same root under which the file was sent."""
        places = {row: self._catalog.objects.place(row) for row in self._catalog.names.sent_as(entry)}
        return {row: place for row, place in places.items() if place.root == at.root and place != at}
