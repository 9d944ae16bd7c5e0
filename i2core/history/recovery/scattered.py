"""Objects on a replica of which nobody knows how far the last records were carried out: found by identity, in any place
that the catalog or a row names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from i2core.api.present import STAGING, STORE, TOP, Handle, Identity, Replica
from i2core.history.index.index import Index

_FIXED = (TOP, STORE, STAGING)


def limbo(oid: int) -> bytes:
    """The name in the store of an object that start-up has taken out of a wrong place."""
    return b"u%d" % oid


class Scattered:
    """Finds objects. Handles stay open until `close`."""

    def __init__(self, index: Index, replica: Replica, seq: int) -> None:
        """`seq`: the moment to which all is taken back."""
        self._index, self._replica, self._seq = index, replica, seq
        self._found: dict[int, list[Handle]] = {oid: [replica.directory(oid)] for oid in _FIXED}
        self._known: dict[Identity, int] = {}

    def places(self, oid: int) -> list[tuple[int, bytes]]:
        """Where the object may be: (directory, name)."""
        names = [(row.parent, row.name) for row in self._index.rows.names_of(oid, self._seq, 1 << 62)]
        return [(STORE, limbo(oid)), *names, *self._index.catalog.homes(oid), (STORE, b"%d" % oid)]

    def find(self, oids: Iterable[int], wanted: set[int]) -> None:
        """Finds these objects and all directories on the way to them, from the known ones down. Those of the moment are
        known from now on: the wanted ones, and what was made before."""
        waiting = self._with_parents(oids)
        for oid in waiting:
            identity = self._index.catalog.identity(oid)
            if identity is not None and (oid in wanted or self._index.catalog.born(oid) <= self._seq):
                self._known[identity] = oid
        while waiting:
            left = [oid for oid in waiting if not self._look(oid)]
            if len(left) == len(waiting):
                return
            waiting = left

    def _with_parents(self, oids: Iterable[int]) -> list[int]:
        todo, found = [oid for oid in oids if oid not in self._found], dict[int, None]()
        while todo:
            oid = todo.pop()
            if oid not in found and oid not in self._found:
                found[oid] = None
                todo += [parent for parent, _ in self.places(oid)]
        return list(found)

    def _look(self, oid: int) -> bool:
        identity = self._index.catalog.identity(oid)
        for parent, name in self.places(oid):
            for directory in self._found.get(parent, ()):
                handle = self._replica.child(directory, name)
                if handle is None:
                    continue
                there = self._replica.facts(handle).identity
                if there == identity or (identity is None and there not in self._known):
                    self._found.setdefault(oid, []).append(handle)
                    if identity is not None:
                        return True
                else:
                    self._replica.release(handle)
        return oid in self._found

    def handles(self, oid: int) -> list[Handle]:
        """The object; several for a new one whose identity is not known."""
        return self._found.get(oid, [])

    def who(self, handle: Handle) -> int | None:
        """Its number; None: it is not one of those that were to be found."""
        return self._known.get(self._replica.facts(handle).identity)

    def sources(self, oid: int) -> Iterator[tuple[Handle, bytes]]:
        """Names under which the object is now."""
        for parent, name in self.places(oid):
            for directory in self.handles(parent):
                handle = self._replica.child(directory, name)
                if handle is None:
                    continue
                right = self.who(handle) == oid
                if right and oid not in self._found:
                    # It was in none of its places, and went aside from one of another object.
                    self._found[oid] = [handle]
                else:
                    self._replica.release(handle)
                if right:
                    yield directory, name

    def close(self) -> None:
        """Releases all handles."""
        for oid, handles in self._found.items():
            if oid not in _FIXED:
                for handle in handles:
                    self._replica.release(handle)
        self._found = {}
