"""Removes from the store what no moment needs any more, and forgets objects without a history.

Runs after merging, while no record is planned and not carried out. An object that no row leads to is unreachable at
every kept moment. What lies in it may still be needed: that is moved out first. Rows go before the object does,
durably: so no row ever leads to an object that is gone.
"""

from __future__ import annotations

from collections.abc import Iterator

from i2core.api.present import STORE, Replica
from i2core.history.index.index import Index
from i2core.history.model.rows import Home, Left
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

    def run(self) -> Iterator[None]:
        """Works, with a stop after each object.

        Raises:
            ObjectLost: somebody else has changed the store.
            OSError: the replica cannot be changed.
        """
        try:
            found = True
            while found:  # what was moved out of an object may be unreachable as well
                found = False
                for gone in self._unreachable():
                    found = True
                    yield from self._remove(gone)
            while forgotten := self._without_history():
                for oid in forgotten:
                    self._catalog.forget(oid)
                yield
        finally:
            self._places.close()
            self._index.flush()

    # ------------------------------------------------------------------------------------------- the store

    def _unreachable(self) -> Iterator[list[int]]:
        """Objects of the store that no row leads to, some at a time."""
        name = b""
        while page := self._catalog.kept_after(name, _ROUND):
            name = page[-1][0]
            gone = [oid for _, oid in page if not self._index.rows.is_named(oid)]
            if gone:
                yield gone

    def _remove(self, gone: list[int]) -> Iterator[None]:
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
        rows beneath an object that span the time in which it lay in the store: nobody sees them, so they go as well."""
        waiting = [top]
        while waiting:
            oid = waiting.pop()
            for name, child, _ in self._catalog.within(oid):
                if len(self._catalog.homes(child)) > 1:
                    self._catalog.change([Left(oid, name)])
                elif self._index.rows.is_named_elsewhere(child, oid):
                    self._rescue(oid, name, child)
                else:
                    waiting.append(child)
            self._index.forget_object(oid)
            if oid != top:
                self._catalog.forget(oid)

    def _rescue(self, directory: int, name: bytes, oid: int) -> None:
        store, kept = self._replica.directory(STORE), b"%d" % oid
        if self._replica.child(store, kept) is None:
            self._replica.move(self._places.find(directory), name, store, kept)
        self._catalog.change([Left(directory, name), Home(STORE, kept, oid, self._kept.floor)])

    # ------------------------------------------------------------------------------------------- the catalog

    def _without_history(self) -> list[int]:
        """Objects with one name, as old as the oldest kept moment, about which and in which nothing is known."""
        alone = self._catalog.alone(self._kept.oldest)
        return [oid for oid in alone if not self._index.rows.speaks_of(oid)]
