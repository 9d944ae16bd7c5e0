"""Places that a run of comparing must leave unverified, with the reason.

The source changes while it is compared: directories move, names come and go. The lister and the step maker meet places
that this run cannot resolve. All of them are collected here; the readers (the mirror's caller, the repair) ask for them
by reason (`Why`).

`SUBTREE_NEW`, `RESENT` and `REMOVED` follow from records that this run sends. They are written to the catalog at once,
in the unit of work that makes the records. The case that breaks otherwise: the process is killed after the record of a
directory was sent. The next run finds the directory on the replica with the right attributes, and never compares its
content. The other three reasons are observations. An interrupted run is repeated and observes again, so they are not
written until their reader takes them over.
"""

from __future__ import annotations

import enum

from i2core.api import Code, Place
from i2core.posix.errnos import GONE, PASSING
from i2core.rule.catalog.doubts import UNNUMBERED
from i2core.rule.catalog.rows import Depth, Doubt
from i2core.rule.source.source import Source

UNREADABLE_MOST = 10_000
"""At most so many unreadable places are kept one by one; beyond that whole roots are unverified."""


class Why(enum.Enum):
    """Why a place stays unverified."""

    MOVED_AWAY = enum.auto()
    """It moved between its listing and a second look: `d` was listed, and is `e` now."""
    APPEARED = enum.auto()
    """It was created or removed between its listing and a second look: only the replica had `f`, and now the source has
    it."""
    SUBTREE_NEW = enum.auto()
    """The replica lacked a directory of which only the name was surveyed: its content has not been compared."""
    RESENT = enum.auto()
    """One name of a file with several names was sent as a new file: the other names must become links to it."""
    REMOVED = enum.auto()
    """It was sent once, the source has removed it since, and this run removes it: the catalog forgets it now."""
    UNREADABLE = enum.auto()
    """It cannot be read now: no descriptors are left, for example."""


_DEEP = frozenset((Why.MOVED_AWAY, Why.SUBTREE_NEW, Why.UNREADABLE))
"""For these reasons everything beneath the place is unverified as well."""
_WRITTEN = frozenset((Why.SUBTREE_NEW, Why.RESENT, Why.REMOVED))


class Findings:
    """The findings of one run. Any thread may add places; those that are written at once only within a unit of work."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._found: dict[Why, dict[Place, str]] = {why: {} for why in Why}
        self._written: dict[Doubt, Why] = {}

    def add(self, place: Place, why: Why, cause: str = "") -> None:
        """Adds an unverified place. `cause`: for unreadable places, in words."""
        found = self._found[why]
        if why is Why.UNREADABLE and len(found) >= UNREADABLE_MOST:
            place = Place(place.root, b"")
        found[place] = cause
        if why in _WRITTEN:
            doubt = self._source.catalog.doubts.at(place, _depth(why))
            self._source.catalog.doubts.keep(UNNUMBERED, [doubt])
            self._written[doubt] = why

    def failed(self, place: Place, error: OSError) -> None:
        """A directory cannot be read, or is gone.

        Raises:
            StopRule: it is there, and the rule says to stop.
            OSError: see `unreadable`.
        """
        if error.errno in GONE:
            self.add(place, Why.MOVED_AWAY)
        else:
            self.unreadable(place, error)

    def unreadable(self, place: Place, error: OSError, code: Code = Code.READ_SOURCE) -> None:
        """As `Source.unreadable`; a passing error becomes a finding.

        Raises:
            StopRule: the rule says to stop.
            OSError: this error, for a root without a row in the catalog: nothing of it could be compared later either.
        """
        if error.errno not in PASSING:
            self._source.unreadable(place, error, code)
            return
        if not place.path and self._source.catalog.objects.get(place) is None:
            raise error
        self.add(place, Why.UNREADABLE, error.strerror or str(error))

    def places(self, why: Why) -> dict[Place, str]:
        """The places found for that reason, each with its cause in words."""
        return self._found[why]

    def doubts(self, *reasons: Why) -> list[Doubt]:
        """Doubts for these reasons, by the present rows; and those already written, which must be closed as well, since
        the place may have had another row then."""
        catalog = self._source.catalog
        doubts = [doubt for doubt, why in self._written.items() if why in reasons]
        for why in reasons:
            if why is Why.SUBTREE_NEW:
                continue  # its rows existed when it was written
            doubts += [catalog.doubts.at(place, _depth(why)) for place in self._found[why]]
        return list(dict.fromkeys(doubts))


def _depth(why: Why) -> Depth:
    return Depth.SUBTREE if why in _DEEP else Depth.NAME
