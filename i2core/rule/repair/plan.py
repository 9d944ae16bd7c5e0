"""Plans a repair: which directories are compared, what is removed, and what must wait.

Doubts refer to rows, so they follow directories that have moved. A directory can be compared only if it has the same
place on the source and on the replica. Any other waits until its move or removal has been sent. Nothing is sent here.
"""

from __future__ import annotations

import enum
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import attrs

from i2core.api import Place
from i2core.config.model import OrphanAction
from i2core.rule.catalog.rows import Depth, Doubt
from i2core.rule.source.draft import Large
from i2core.rule.source.source import Source
from i2core.rule.survey.lister import Scope

LEVELS = 100
"""Of at most so many directories above a place the names are compared. In a deeper tree the attributes of the topmost
of them fail, and the next repair begins there. Without a limit, their paths would take the square of the depth."""


class Extent(enum.Enum):
    """How much a plan has compared. Doubts that are *deep* are about a directory and everything beneath it."""

    DIRECTORIES = enum.auto()
    """The directories of the names, and everything beneath the deep ones: what a repair compares."""
    NAMES = enum.auto()
    """Only the names themselves: what a repair compares of names that fail again and again."""
    UNVERIFIED = enum.auto()
    """The names themselves, and everything beneath the deep ones: exactly what is unverified."""


@attrs.define
class Unresolved:
    """What a plan, or the repair after it, could not resolve."""

    doubts: list[Doubt] = attrs.field(factory=list)
    """To be compared again: an object moved before it was compared."""
    moved: list[Place] = attrs.field(factory=list)
    """Directories in which an object has moved without a report: to be compared with the catalog."""
    touched: list[Place] = attrs.field(factory=list)
    """Entries that were created after their directory's times were set."""
    deeper: list[Doubt] = attrs.field(factory=list)
    """Directories that the replica lacked: their content is to be compared when they exist."""
    large: list[Large] = attrs.field(factory=list)
    """Large files that are to be sent."""
    absent: list[tuple[Place, Doubt]] = attrs.field(factory=list)
    """Objects beneath a directory that was missing on the replica: they are compared after its content."""
    unread: dict[Place, str] = attrs.field(factory=dict)
    """Objects that cannot be read here at the moment, with the cause."""


class RepairPlan(NamedTuple):
    """The plan for some doubts."""

    scopes: list[Scope]
    """Directories to be compared."""
    gone: list[Place]
    """Neither the source nor, as far as is known, the replica has an object here."""
    compared: list[tuple[Place, Doubt]]
    unresolved: Unresolved
    extent: Extent = Extent.DIRECTORIES
    removing: frozenset[Place] = frozenset()
    """Directories in which, and beneath which, names that only the replica has are removed, and are no orphans: those
    that are `Depth.REPLACED`, and all of a rule that deletes orphans."""

    def covers(self, place: Place) -> bool:
        """True when the object at `place` is compared."""
        name = place.path.rpartition(b"/")[2]
        return any(
            (scope.place == place.above and (scope.names is None or name in scope.names))
            or (scope.deep and is_beneath(place, scope.place))
            for scope in self.scopes
        )


def plan(source: Source, doubts: Iterable[Doubt], extent: Extent = Extent.DIRECTORIES) -> RepairPlan:
    """Plans where to compare these doubts now; for worker threads."""
    with source.job():
        return _planned(source, doubts, extent)


def _planned(source: Source, doubts: Iterable[Doubt], extent: Extent) -> RepairPlan:
    scopes: dict[Place, bool] = {}
    names: dict[Place, set[bytes]] = {}
    gone: list[Place] = []
    compared: list[tuple[Place, Doubt]] = []
    unresolved = Unresolved()
    standing, removing = set[int](), set[Place]()
    if source.orphans is OrphanAction.DELETE:
        removing.update(Place(root, b"") for root in range(len(source.trees)))
    for doubt, places in _places(source, doubts):
        for place in places:
            moved = _moved(source, place.above if place.path else place, standing)
            if moved is None and doubt.deep and _has_left(source, place, doubt):
                moved = place.above
            if moved is not None:
                unresolved.doubts.append(doubt)
                unresolved.moved.append(moved)
                continue
            compared.append((place, doubt))
            if doubt.deep is Depth.REPLACED and place == source.catalog.doubts.named(doubt):
                removing.add(place)
            above = _look(source, place, bool(doubt.deep), scopes, gone)
            names.setdefault(above, set()).update(_within(above, place))
            if place in scopes:  # a directory: it is compared itself together with its entries
                names.setdefault(place, set())
    unresolved.doubts = list(dict.fromkeys(unresolved.doubts))
    chosen = list(_within_extent(extent, scopes, names))
    return RepairPlan(chosen, gone, compared, unresolved, extent, frozenset(removing))


def _within_extent(extent: Extent, scopes: dict[Place, bool], names: dict[Place, set[bytes]]) -> Iterator[Scope]:
    """The directories to be surveyed. `scopes`: those that contain the names, or are deep; `names`: the names in
    them."""
    if extent is Extent.DIRECTORIES:
        return _chosen(scopes, {})
    if extent is Extent.NAMES:
        return _chosen({}, names)
    return _chosen({place: True for place, deep in scopes.items() if deep}, names)


def _chosen(scopes: dict[Place, bool], names: dict[Place, set[bytes]]) -> Iterator[Scope]:
    """The directories to be surveyed: those of `scopes` as a whole, deep or not; of the others the `names`."""
    top: Place | None = None
    # In this order a directory is followed at once by everything beneath it.
    for place in sorted(scopes | names, key=lambda each: (each.root, each.path and each.path + b"/")):
        if top is not None and is_beneath(place, top):
            continue
        if place in scopes:
            yield Scope(place, deep=scopes[place])
            top = place if scopes[place] else top
        else:
            yield Scope(place, deep=False, names=frozenset(names[place]))


def with_directories(lacking: Iterable[Scope]) -> list[Scope]:
    """Scopes of which the replica lacks the directory, and the names of the directories that lead to them: the topmost
    one that is missing is found by its name, in the directory above it."""
    scopes: dict[Place, bool] = {}
    names: dict[Place, set[bytes]] = {}
    for scope in lacking:
        if scope.names is None:
            scopes[scope.place] = scope.deep
        else:
            names.setdefault(scope.place, set()).update(scope.names)
        _add_directories(names, scope.place)
    return list(_chosen(scopes, names))


def _add_directories(names: dict[Place, set[bytes]], place: Place) -> None:
    """Adds the names of the directory at `place` and of those above it."""
    for _ in range(LEVELS):
        name = place.path.rpartition(b"/")[2]
        if not name or name in names.setdefault(place.above, set()):
            return  # the root, or those above were added before
        names[place.above].add(name)
        place = place.above


def _within(above: Place, place: Place) -> list[bytes]:
    """The name in the directory `above` that leads to `place`; none when `place` is that directory."""
    rest = place.path[len(above.path) :].lstrip(b"/")
    return [rest.partition(b"/")[0]] if rest else []


def _places(source: Source, doubts: Iterable[Doubt]) -> Iterator[tuple[Doubt, list[Place]]]:
    """The places to compare for each doubt; an object with several names is compared at all of them, once."""
    inodes = set[int]()
    for doubt in doubts:
        places = source.catalog.doubts.places_of(doubt)
        if doubt.inode and doubt.inode not in inodes:
            inodes.add(doubt.inode)
            places += [place for place in source.catalog.names.names_of(doubt.inode) if place not in places]
        yield doubt, places


def _look(source: Source, place: Place, deep: bool, scopes: dict[Place, bool], gone: list[Place]) -> Place:
    """Adds the scopes and removals of one doubt to `scopes` and `gone`; returns the directory to be compared."""
    entry, row = source.trees[place.root].lookup(place.path), source.catalog.objects.get(place)
    above = place.above
    while above.path and not _is_directory(source, above):
        above = above.above  # it is not a directory any more, so nothing can be beneath it
    # Also after a removal: the directory's own times were to be set.
    above = above if place.path else place
    scopes.setdefault(above, False)
    if entry is not None:
        if stat.S_ISDIR(entry.mode) and row is not None:
            scopes[place] = scopes.get(place, False) or deep
    elif row is not None:
        # It was moved or removed since, and its hint has not arrived yet: it is compared later, at its new place.
        source.catalog.doubts.distrust(row)
    elif place.path and above == place.above:
        gone.append(place)
    return above


def _is_directory(source: Source, place: Place) -> bool:
    """True when the replica has a directory there, according to the catalog."""
    row = source.catalog.objects.get(place)
    return row is not None and stat.S_ISDIR(row.mode)


def _moved(source: Source, directory: Place, standing: set[int]) -> Place | None:
    """None when each directory down to this one has the same place on the source and on the replica; otherwise the last
    one that has. `standing`: row ids of directories for which this was found before."""
    catalog, tree = source.catalog, source.trees[directory.root]
    row = catalog.objects.get(directory)
    if row is not None and row.id in standing:
        return None
    place, found = Place(directory.root, b""), list[int]()
    for part in [b"", *directory.path.split(b"/")] if directory.path else [b""]:
        below = place.child(part) if part else place
        row = catalog.objects.get(below)
        if row is None or row.id not in standing:
            entry = tree.lookup(below.path)
            if row is None or entry is None or not row.is_object(entry):
                return place
            found.append(row.id)
        place = below
    standing.update(found)
    return None


def _has_left(source: Source, place: Place, doubt: Doubt) -> bool:
    """True when an unverified directory is not on the source where the replica has it: its content would be missed."""
    row, entry = source.catalog.objects.get(place), source.trees[place.root].lookup(place.path)
    if row is None or row.id != doubt.node or not place.path or not stat.S_ISDIR(row.mode):
        return False
    return entry is None or not row.is_object(entry)


def is_beneath(place: Place, top: Place) -> bool:
    """True when the place lies in that directory, at whatever depth."""
    return place.root == top.root and place.path.startswith(top.path + b"/" if top.path else b"") and place != top
