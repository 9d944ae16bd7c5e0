"""Removes from the store what no moment needs any more, and forgets objects without a history.

Runs after merging, while no record is planned and not carried out. An object that no row leads to is unreachable at
every kept moment. What lies in it may still be needed: that is moved out first. Rows go before the object does,
durably: so no row ever leads to an object that is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from itertools import islice

from i2core.api.present import STORE, Replica
from i2core.history.index.index import Index
from i2core.history.model.rows import FIRST_OID, CatalogChange, Home, Left
from i2core.history.read.places import Places
from i2core.history.retention.kept import Kept

_ROUND = 256
"""Objects that are removed with one sync of the index."""


class Sweep:
    """One sweep; `run` may be closed at any stop and another begun."""

    def __init__(self, index: Index, replica: Replica, kept: Kept) -> None:
        self._index, self._replica, self._kept = index, replica, kept
        self._catalog = index.catalog
        self._places = Places(index, replica)

    def run(self) -> Generator[None, None, None]:
        """Works, with a stop after each object that is removed, and after some that are looked at.

        Raises:
            ObjectLost: somebody else has changed the store.
            OSError: the replica cannot be changed.
        """
        try:
            yield from self._remove_strays()
            found = True
            while found:  # what was moved out of an object may be unreachable as well
                found = False
                for gone in self._unreachable():
                    found = found or bool(gone)
                    yield from self._remove(gone)
            yield from self._forget()
            self._index.flush()
        finally:
            self._places.close()

    # ------------------------------------------------------------------------------------------- the store

    def _remove_strays(self) -> Iterator[None]:
        """Removes objects that are forgotten already: a power cut may bring back a name that was removed."""
        store = self._replica.directory(STORE)
        names = iter(self._replica.names(store))
        while page := list(islice(names, _ROUND)):
            for name in page:
                if name.isdigit() and not self._catalog.knows(oid := int(name)) and not self._index.rows.is_named(oid):
                    self._replica.remove(store, name)
            yield

    def _unreachable(self) -> Iterator[list[int]]:
        """Objects of the store that no row leads to, of some objects at a time."""
        name = b""
        while page := self._catalog.kept_after(name, _ROUND):
            name = page[-1][0]
            yield [oid for _, oid in page if not self._index.rows.is_named(oid)]

    def _remove(self, gone: list[int]) -> Iterator[None]:
        if not gone:
            yield
            return
        for oid in gone:
            self._clear(oid)
            yield
        self._index.sync()
        self._places.close()
        for oid in gone:
            self._replica.remove(self._replica.directory(STORE), b"%d" % oid)
            self._catalog.forget(oid)
            yield

    def _clear(self, top: int) -> None:
        """Moves out of the object what is needed, and drops all rows about the rest. Turned back, a replica may have
        rows beneath an object that span the time in which it lay in the store: nobody sees them, so they go as well.

        The moves are durable before catalog and rows say so: else a power cut could leave an object in a place that
        nothing leads to any more."""
        gone, left, needed = [top], Counter[int](), list[tuple[int, bytes, int]]()
        changes: list[CatalogChange] = []
        for oid in gone:  # grows meanwhile
            for name, child, _ in self._catalog.within(oid):
                if len(self._catalog.homes(child)) - left[child] > 1:
                    left[child] += 1
                    changes.append(Left(oid, name))
                elif self._index.rows.is_named_elsewhere(child, oid):
                    needed.append((oid, name, child))
                    changes += [Left(oid, name), Home(STORE, b"%d" % child, child, self._kept.floor)]
                else:
                    gone.append(child)
        moved = [self._rescue(*place) for place in needed]
        if any(moved):
            self._replica.flush()
        self._catalog.change(changes)
        for oid in gone:
            self._index.forget_object(oid)
            if oid != top:
                self._catalog.forget(oid)

    def _rescue(self, directory: int, name: bytes, oid: int) -> bool:
        """Moves an object to the store; False: it is there already."""
        store, kept = self._replica.directory(STORE), b"%d" % oid
        there = self._replica.child(store, kept)
        if there is not None:
            self._replica.release(there)
            return False
        self._replica.move(self._places.find(directory), name, store, kept)
        return True

    # ------------------------------------------------------------------------------------------- the catalog

    def _forget(self) -> Iterator[None]:
        """Forgets objects with one name, as old as the oldest kept moment, about which and in which nothing is known:
        then those that they were in."""
        found = True
        while found:
            found, last = False, FIRST_OID - 1
            while page := self._catalog.alone(self._kept.oldest, last, _ROUND):
                last = page[-1]
                for oid in page:
                    if not self._index.rows.speaks_of(oid):
                        self._catalog.forget(oid)
                        found = True
                yield
