"""Finds names that the replica has in a directory and the source does not list: the candidates for orphans.

The source lists a directory in chunks, so the missing names are known after the last one. For a directory with a few
thousand names, the set of names not listed yet is kept. A larger directory may have more names than fit in memory, so
only their number and the sum of their hashes are kept. Each listed name that exists is subtracted; if both are zero at
the end, everything was listed. If not, the source asks for the names page by page and looks up each one itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import xxhash

from i2core.api import Entry, Place, ProtocolError
from i2core.api.names import NAME_COST
from i2core.wire.listing import ReceivedChunk

ANSWER_BYTES = 2 << 20
"""Most bytes of names in one answer, each counted with `NAME_COST`."""
_SUM = 1 << 64


@attrs.define
class Tally:
    """A set of names by their number and the sum of their hashes: two sets with equal ones are the same, but for one
    chance in 2^64."""

    count: int = 0
    total: int = 0

    def add(self, names: Iterable[bytes], sign: int = 1) -> None:
        """Adds names; with a `sign` of -1 removes them."""
        hashes = [xxhash.xxh3_64_intdigest(name) for name in names]
        self.count += sign * len(hashes)
        self.total = (self.total + sign * sum(hashes)) % _SUM


@attrs.frozen
class Found:
    """The result after the last chunk of a directory."""

    names: list[bytes]
    more: bool = False
    """There are more, too many for this answer."""


NOTHING = Found([])


class Room:
    """How many more names fit in one answer, over all of its directories."""

    def __init__(self) -> None:
        self._left = ANSWER_BYTES

    def tell(self, names: list[bytes]) -> Found:
        """All of the names if they fit, otherwise only that there are some."""
        takes = sum(map(len, names)) + NAME_COST * len(names)
        if takes > self._left:
            return Found([], more=True)
        self._left -= takes
        return Found(names)


class Unlisted:
    """The directory that is being listed in several chunks. Only names that the replica has are kept between chunks,
    never names that the peer sends: those could be without limit."""

    def __init__(self) -> None:
        self._place: Place | None = None
        self._left: set[bytes] | Tally = set()

    def listed(
        self, chunk: ReceivedChunk, there: Sequence[Entry | None], names: Sequence[bytes] | Tally, room: Room
    ) -> Found:
        """A chunk was listed; the replica has `there` of its names. `names`: with a directory's first chunk, all names
        of the replica in it.

        Raises:
            ProtocolError: a listing continues that never began.
        """
        place = Place(chunk.root, chunk.path)
        # A directory with a single chunk may arrive between the chunks of another.
        alone = chunk.first and chunk.last
        if chunk.first:
            left = names if isinstance(names, Tally) else set(names)
            if not alone:
                self._place, self._left = place, left
        elif self._place == place:
            left = self._left
        else:
            raise ProtocolError("a listing continues that never began")
        if isinstance(left, Tally):
            left.add((name for name, entry in zip(chunk.names, there, strict=True) if entry is not None), -1)
        else:
            left.difference_update(chunk.names)
        if not chunk.last:
            return NOTHING
        if not alone:
            self._place, self._left = None, set()
        if isinstance(left, Tally):
            return Found([], more=(left.count, left.total) != (0, 0))
        return room.tell(sorted(left))
