"""Finds objects by their number, wherever they are now: on the replica, in the store, or in a directory that lies
there."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from i2core.api.present import STAGING, STORE, TOP, Handle, Identity, Present
from i2core.history.index.index import Index

_LOOKS = 16


class ObjectLost(OSError):
    """The object is not where the catalog says, or not as it was left: somebody else has changed the replica.

    Its errno is EUCLEAN, a failed read: no reader takes the object for one that is gone.
    """

    def __init__(self, oid: int, what: str = "is not where the catalog says") -> None:
        super().__init__(errno.EUCLEAN, f"object {oid or 'without a number'} {what}")
        self.oid = oid


class Places:
    """Opens objects and keeps them open until `close`: an object that moves keeps its handle."""

    def __init__(self, index: Index, present: Present) -> None:
        self.present = present
        self._index = index
        self._open: dict[int, Handle] = {oid: present.directory(oid) for oid in (TOP, STORE, STAGING)}
        self._others: list[Handle] = []
        self._sought: set[int] = set()

    def find(self, oid: int) -> Handle:
        """The object.

        Raises:
            ObjectLost: it is in none of its places.
        """
        for _ in range(_LOOKS):
            handle = self._look(oid)
            if handle is not None:
                return handle
        raise ObjectLost(oid)

    def _look(self, oid: int) -> Handle | None:
        """A record that is being carried out may move the object while it is looked for: then it is missed once."""
        if oid in self._open or oid in self._sought:
            return self._open.get(oid)
        identity = self._index.catalog.identity(oid)
        self._sought.add(oid)
        try:
            for parent, name in self._places(oid):
                above = self._look(parent)
                handle = None if above is None else self.present.child(above, name)
                if handle is not None and is_it(self.present, handle, identity):
                    self._open[oid] = handle
                    return handle
        finally:
            self._sought.discard(oid)
        return None

    def _places(self, oid: int) -> Iterator[tuple[int, bytes]]:
        """Where the object may be: where the catalog says, which is ahead of the replica by the records that are not
        carried out yet; where it was before them; or in the store, when a sweep was cut off that moved it there."""
        yield from self._index.catalog.homes(oid)
        yield from self._index.rows.places(oid)
        yield STORE, b"%d" % oid

    def keep(self, handle: Handle) -> Handle:
        """Releases it at the end as well."""
        self._others.append(handle)
        return handle

    def hand_over(self, handle: Handle) -> Handle:
        """It stays open at the end: the caller releases it."""
        self._open = {oid: kept for oid, kept in self._open.items() if kept != handle or oid in (TOP, STORE, STAGING)}
        self._others = [kept for kept in self._others if kept != handle]
        return handle

    def close(self) -> None:
        """Releases all."""
        for oid in [oid for oid in self._open if oid not in (TOP, STORE, STAGING)]:
            self.present.release(self._open.pop(oid))
        for handle in self._others:
            self.present.release(handle)
        self._others = []


def is_it(present: Present, handle: Handle, identity: Identity | None) -> bool:
    """True when the open object may be the one of this identity; else it is released."""
    if identity is None or present.facts(handle).identity == identity:
        return True
    present.release(handle)
    return False
