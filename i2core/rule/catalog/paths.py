"""A cache of the rows of directories by path, so that a path is not resolved name by name each time."""

from __future__ import annotations

from collections import OrderedDict

from i2core.api import Place

_PATHS, _PATHS_BYTES = 8192, 4 << 20
"""Limits: directories whose rows are remembered, and bytes of their paths, one of which may have 64 KiB."""


class PathCache:
    """The ids of the rows of directories by path, and the other way round; those that were used last."""

    def __init__(self) -> None:
        self._ids: OrderedDict[Place, int] = OrderedDict()
        self._places: dict[int, Place] = {}
        self._bytes = 0

    def __getitem__(self, place: Place) -> int:
        """The id of the directory's row; 0: it is not remembered."""
        return self._ids.get(place, 0)

    def use(self, place: Place) -> int | None:
        """As by index, and marks the entry as recently used; None: it is not remembered."""
        known = self._ids.get(place)
        if known is not None:
            self._ids.move_to_end(place)
        return known

    def place_of(self, ident: int) -> Place | None:
        """The place of the directory with that row; None: it is not remembered."""
        return self._places.get(ident)

    def remember(self, place: Place, ident: int) -> None:
        """Remembers that the directory at `place` has this row."""
        self._ids[place] = ident
        self._places[ident] = place
        self._bytes += len(place.path)
        while len(self._ids) > _PATHS or self._bytes > _PATHS_BYTES:
            self.forget(next(iter(self._ids.values())))

    def forget(self, ident: int) -> None:
        """Forgets a row that was removed."""
        place = self._places.pop(ident, None)
        if place is not None:
            del self._ids[place]
            self._bytes -= len(place.path)

    def clear(self) -> None:
        """Forgets all: directories were moved or removed."""
        self._ids.clear()
        self._places.clear()
        self._bytes = 0
