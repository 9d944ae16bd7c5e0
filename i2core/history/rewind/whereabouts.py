"""Where objects are now, and will be after some records that are not carried out yet: what turning back plans with."""

from __future__ import annotations

from i2core.api.present import STAGING, STORE, TOP
from i2core.history.index.catalog import Catalog
from i2core.history.read.paths import Place


class Whereabouts:
    """Names of objects, changed by `leave` and `arrive`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._homes: dict[int, list[tuple[int, bytes]]] = {}

    def homes(self, oid: int) -> list[tuple[int, bytes]]:
        """Names of the object; it lies in the store when it has no other."""
        if oid not in self._homes:
            self._homes[oid] = [home for home in self._catalog.homes(oid) if home[0] != STAGING]
        return self._homes[oid] or [(STORE, b"%d" % oid)]

    def place(self, directory: int) -> Place | None:
        """Its path on the replica, as far as it is one (None: it lies in the store)."""
        return self.of_name(*self.homes(directory)[0])

    def of_name(self, parent: int, name: bytes) -> Place | None:
        """The path of a name."""
        if parent == TOP:
            return Place(int(name), b"")
        if parent == STORE:
            return None
        above = self.place(parent)
        return None if above is None else above.below(name)

    def kept(self, parent: int, name: bytes) -> bytes:
        """The path within the store of a name that lies there."""
        return name if parent == STORE else self.kept(*self.homes(parent)[0]) + b"/" + name

    def leave(self, parent: int, name: bytes) -> None:
        """The name leads nowhere: its object lies in the store, if that was its last one."""
        home = self._catalog.home(parent, name)
        if home is not None:
            self.homes(home[0])
            self._homes[home[0]] = [one for one in self._homes[home[0]] if one != (parent, name)]

    def arrive(self, oid: int, parent: int, name: bytes) -> None:
        """The object gets the name."""
        self.homes(oid)
        self._homes[oid] = [one for one in self._homes[oid] if one[0] != STORE] + [(parent, name)]
