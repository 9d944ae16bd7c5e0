"""Mending what is in doubt: places whose records failed, or of which nobody knows whether they were applied, are
compared strictly with the replica, and what differs is sent.

Doubts name rows, so they follow directories that have moved. Only a directory that is on the source where the replica
has it can be compared; any other waits until what happened to it has been told.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from typing import NamedTuple

import trio

from i2core.api import Kind, Place, Record
from i2core.rule.mirror.lister import Scope
from i2core.rule.mirror.mirror import Mirror
from i2core.rule.reading.catalog import Doubt
from i2core.rule.reading.source import Source
from i2core.wire.session import Session

REMOVALS = 1000


class Waiting(NamedTuple):
    """What could not be compared yet."""

    doubts: list[Doubt]
    moved: list[Place]
    """Directories in which something has moved that nobody told of: to be compared with the catalog."""
    touched: list[Place]
    """Entries that were made behind their directory's times."""


class Plan(NamedTuple):
    """What becomes of doubts."""

    scopes: list[Scope]
    """Directories to be compared."""
    gone: list[Place]
    """Neither the source nor, as far as we know, the replica has anything here."""
    compared: list[tuple[Place, Doubt]]
    waiting: Waiting

    def covers(self, place: Place) -> bool:
        """True when the object at `place` is compared."""
        return any(
            scope.place == place.above or (scope.deep and _is_beneath(place, scope.place)) for scope in self.scopes
        )


async def mend(source: Source, session: Session, plan: Plan, found: dict[Doubt, None]) -> Waiting:
    """Compares what is planned with the replica, and mends what differs. All records made before are sent already, and
    nobody makes others meanwhile. What is in doubt beside these places goes into `found`, as soon as that is known.

    Raises:
        LinkError: the link broke.
    """
    for at in range(0, len(plan.gone), REMOVALS):
        part = plan.gone[at : at + REMOVALS]
        await session.send_records([Record(Kind.REMOVE, place.root, place.path) for place in part])
    mirror = Mirror(source, session, orphans=False, strict=True)
    try:
        await mirror.run(plan.scopes)
    finally:
        found.update(mirror.deepened)
        found.update(dict.fromkeys(source.catalog.doubt_at(place) for place in mirror.renewed))
    plan.waiting.doubts.extend(mirror.unsettled)
    missed = mirror.missed.difference(plan.gone)
    plan.waiting.doubts.extend(doubt for place, doubt in plan.compared if _touches(place, doubt, missed))
    compared = [place for place, _ in plan.compared]
    links = await trio.to_thread.run_sync(_links, source, [*compared, *mirror.renewed])
    for at in range(0, len(links), REMOVALS):
        await session.send_records(links[at : at + REMOVALS])
    plan.waiting.touched.extend(Place(link.root, link.path) for link in links)
    return plan.waiting


def plan(source: Source, doubts: Iterable[Doubt]) -> Plan:
    """Where to look into these doubts now; for worker threads."""
    scopes: dict[Place, bool] = {}
    gone: list[Place] = []
    compared: list[tuple[Place, Doubt]] = []
    waiting = Waiting([], [], [])
    for doubt in doubts:
        for place in source.catalog.places_of(doubt):
            moved = _moved(source, place.above if place.path else place)
            if moved is None and doubt.deep and _has_left(source, place, doubt):
                moved = place.above
            if moved is not None:
                waiting.doubts.append(doubt)
                waiting.moved.append(moved)
                continue
            compared.append((place, doubt))
            _look(source, place, doubt.deep, scopes, gone)
    tops = [place for place, deep in scopes.items() if deep]
    covered = {place for place in scopes if any(_is_beneath(place, top) for top in tops)}
    chosen = [Scope(place, deep=scopes[place]) for place in sorted(scopes.keys() - covered)]
    return Plan(chosen, gone, compared, Waiting(list(dict.fromkeys(waiting.doubts)), waiting.moved, []))


def _touches(place: Place, doubt: Doubt, missed: set[Place]) -> bool:
    """True when something that this doubt is about was missed."""
    if place in missed or place.above in missed:
        return True
    return doubt.deep and any(_is_beneath(each, place) for each in missed)


def _look(source: Source, place: Place, deep: bool, scopes: dict[Place, bool], gone: list[Place]) -> None:
    entry, row = source.trees[place.root].lookup(place.path), source.catalog.get(place)
    above = place.above
    while above.path and not _is_directory(source, above):
        above = above.above  # it became something else, and nothing can be beneath
    # Also behind a removal: the directory's own times were to be set.
    scopes.setdefault(above if place.path else place, False)
    if entry is not None:
        if stat.S_ISDIR(entry.mode) and row is not None:
            scopes[place] = scopes.get(place, False) or deep
    elif row is not None:
        # Moved or removed since, with a hint that is still to come: where it is then, it is looked at anew.
        source.catalog.doubt(row)
    elif place.path and above == place.above:
        gone.append(place)


def _is_directory(source: Source, place: Place) -> bool:
    """True when the replica has a directory there, as far as we know."""
    row = source.catalog.get(place)
    return row is not None and stat.S_ISDIR(row.mode)


def _moved(source: Source, directory: Place) -> Place | None:
    """None when the source has each directory down to this one where the replica has it; else the last that it has."""
    place = Place(directory.root, b"")
    for part in [b"", *directory.path.split(b"/")] if directory.path else [b""]:
        below = place.child(part) if part else place
        row, entry = source.catalog.get(below), source.trees[place.root].lookup(below.path)
        if row is None or entry is None or not row.is_object(entry):
            return place
        place = below
    return None


def _has_left(source: Source, place: Place, doubt: Doubt) -> bool:
    """True when a directory in doubt is not on the source where the replica has it: what is in it would go unseen."""
    row, entry = source.catalog.get(place), source.trees[place.root].lookup(place.path)
    if row is None or row.id != doubt.node or not place.path or not stat.S_ISDIR(row.mode):
        return False
    return entry is None or not row.is_object(entry)


def _is_beneath(place: Place, top: Place) -> bool:
    return place.root == top.root and place.path.startswith(top.path + b"/" if top.path else b"") and place != top


def _links(source: Source, places: Iterable[Place]) -> list[Record]:
    """What was compared by itself is made one again with the other names of its file."""
    records: dict[Place, Record] = {}
    for place in places:
        tree, row = source.trees[place.root], source.catalog.get(place)
        entry = tree.lookup(place.path)
        if row is None or entry is None or entry.nlink < 2 or not stat.S_ISREG(entry.mode) or not row.is_object(entry):
            continue
        for other in map(source.catalog.place, source.catalog.other_names(row)):
            there = tree.lookup(other.path) if other.root == place.root else None
            if there is not None and there.ino == entry.ino and place not in records:
                records.setdefault(other, Record(Kind.LINK, other.root, other.path, other=place.path))
    return list(records.values())
