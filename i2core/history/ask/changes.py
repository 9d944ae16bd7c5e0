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


def changes_json(found: list[Differs]) -> list[dict[str, Any]]:
    """They, for programs, in the same order. An object that has taken the place of another one is told once, as
    ``replaced``: a file that a program saves anew, for example."""
    gone = {(one.before.root, one.before.path) for one in found if one.before is not None and one.after is None}
    come = {(one.after.root, one.after.path) for one in found if one.before is None and one.after is not None}
    replaced = gone & come
    told = [_json(one, replaced) for one in found if one.after is not None or _path(one) not in replaced]
    return sorted(told, key=lambda one: (one["root"], os.fsencode(one["path"])))


def _json(one: Differs, replaced: set[tuple[int, bytes]]) -> dict[str, Any]:
    place = one.after or one.before
    assert place is not None
    is_new = _path(one) in replaced and one.before is None
    what = "replaced" if is_new else "created" if one.before is None else "removed" if one.after is None else "changed"
    return {
        "what": what,
        "root": place.root,
        "path": os.fsdecode(place.path),
        "before": os.fsdecode(place.path) if is_new else None if one.before is None else os.fsdecode(one.before.path),
        "names": one.names and not is_new,
        "attributes": one.attributes,
        "content": one.content or is_new,
        "object": one.oid,
    }
