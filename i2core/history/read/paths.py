"""Which names an object had at a moment, and what its path was."""

from __future__ import annotations

from typing import NamedTuple

from i2core.api.present import STAGING, STORE, TOP
from i2core.history.index.index import Index

_HIDDEN = (STORE, STAGING)


class Place(NamedTuple):
    """A path beneath a root."""

    root: int
    path: bytes

    def below(self, name: bytes) -> Place:
        """A name in this directory."""
        return Place(self.root, self.path + b"/" + name if self.path else name)

    @property
    def depth(self) -> int:
        """Directories above it, beneath the root."""
        return self.path.count(b"/")


class PathsAt:
    """Paths at one moment. What was asked is remembered."""

    def __init__(self, index: Index, seq: int) -> None:
        self._index, self._seq = index, seq
        self._known: dict[int, Place | None] = {}

    def names(self, oid: int) -> set[tuple[int, bytes]]:
        """(parent, name) of all names of the object, also beneath a directory that was not there."""
        found = {(row.parent, row.name) for row in self._index.rows.names_of(oid, self._seq, self._seq)}
        found |= {(parent, name) for parent, name, _ in self._index.catalog.homes_since(oid, -1, self._seq)}
        return {(parent, name) for parent, name in found if parent not in _HIDDEN}

    def place(self, oid: int) -> Place | None:
        """A path of the object; None: it was not there. A name beneath a removed directory is still a name in it, but
        nobody sees it."""
        if oid not in self._known:
            self._known[oid] = None
            for parent, name in sorted(self.names(oid)):
                place = self.of_name(parent, name)
                if place is not None:
                    self._known[oid] = place
                    break
        return self._known[oid]

    def of_name(self, parent: int, name: bytes) -> Place | None:
        """The path of a name in a directory; None: the directory was not there."""
        if parent == TOP:
            return Place(int(name), b"")
        above = self.place(parent)
        return None if above is None else above.below(name)
