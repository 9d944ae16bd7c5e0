"""What differs between two moments of a history."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from i2core.api import Place as Named
from i2core.history.ask.where import is_in
from i2core.history.read.difference import Difference, Differs
from i2core.history.read.paths import Place
from i2core.history.record.history import History

MOST = 1000


class Changes(NamedTuple):
    """Objects that differ, by path."""

    found: list[Differs]
    more: bool
    """There are others."""


def changes(history: History, first: int, second: int, *, beneath: Named | None = None, most: int = MOST) -> Changes:
    """Objects that are not at the second moment what they were at the first, up to so many. A tree that came, went or
    moved is told by its top alone. `beneath`: only those with a path in this one, then or now.

    Raises:
        OSError: somebody else has changed the replica.
    """
    found: list[Differs] = []
    past = history.past()
    try:
        with history.reading:
            differing = Difference(past, first, second).objects()
        while True:
            with history.reading:  # for one object at a time: others want their turn as well
                one = next(differing, None)
            if one is None:
                return Changes(sorted(found, key=_path), False)
            if beneath is None or any(_is_in(place, beneath) for place in (one.before, one.after)):
                if len(found) == most:
                    return Changes(sorted(found, key=_path), True)
                found.append(one)
    finally:
        with history.reading:
            past.places.close()


def _is_in(place: Place | None, above: Named) -> bool:
    return place is not None and is_in(Named(*place), above)


def _path(one: Differs) -> tuple[int, bytes]:
    place = one.after or one.before
    assert place is not None
    return place.root, place.path


def differs_json(one: Differs) -> dict[str, Any]:
    """One of them for programs."""
    place = one.after or one.before
    assert place is not None
    what = "created" if one.before is None else "removed" if one.after is None else "changed"
    return {
        "what": what,
        "root": place.root,
        "path": os.fsdecode(place.path),
        "before": None if one.before is None else os.fsdecode(one.before.path),
        "names": one.names,
        "attributes": one.attributes,
        "content": one.content,
        "object": one.oid,
    }
