"""Under which names a mirror brought the files that have several.

What is listed under one name may be another file, or gone, by the time it is read: then what was listed later under
another name must not become a link to it.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence

from i2core.api import Entry, Place
from i2core.rule.reading.catalog import Catalog, Row


def is_shared(entry: Entry) -> bool:
    """True for a file with several names."""
    return entry.nlink > 1 and stat.S_ISREG(entry.mode)


class SharedFiles:
    """The files with several names of one mirror run. `certain`: what the catalog says is on the replica; otherwise it
    may be in doubt itself."""

    def __init__(self, catalog: Catalog, *, certain: bool) -> None:
        self._catalog = catalog
        self._certain = certain
        self._missed: set[Place] = set()
        self.renewed: list[Place] = []
        """Files that were sent anew under one of their names."""

    def miss(self, *places: Place) -> None:
        """What was listed there was another file, or gone, before it was brought."""
        self._missed.update(places)

    def is_missed(self, at: Place, first: bytes | None) -> bool:
        """True when what is listed at `at`, or in it, was to be brought as the file listed first at `first`, and was
        not."""
        return first is not None and Place(at.root, first) in self._missed

    def sent_as(
        self, at: Place, entry: Entry, first: bytes | None, kept: Sequence[tuple[Entry, Row | None]]
    ) -> bytes | None:
        """The name under which this very file was sent: the one that was listed first, unless that was another file
        when it was sent; or one that became its name since it was listed. None: it has not been sent. `kept`: what is
        sent of this directory, and not in the catalog yet."""
        catalog, above = self._catalog, at.above
        same = [above.child(each.name).path for each, _ in kept if (each.dev, each.ino) == (entry.dev, entry.ino)]
        if first is not None and not self.is_missed(at, first):
            row = catalog.get(Place(at.root, first))
            if first in same or (row is not None and row.is_object(entry)):
                return first
        if self._certain:
            same += [place.path for place in self._other_names(at, entry).values()]
        return same[0] if same else None

    def renew(self, at: Place, entry: Entry) -> None:
        """A file is sent anew under one of its names: what the replica has under others is another file, until they
        are made one."""
        self.renewed.append(at)
        for row in self._other_names(at, entry):
            self._catalog.doubt(row)

    def _other_names(self, at: Place, entry: Entry) -> dict[Row, Place]:
        """Where else beneath the same root the file was sent."""
        places = {row: self._catalog.place(row) for row in self._catalog.sent_as(entry)}
        return {row: place for row, place in places.items() if place.root == at.root and place != at}
