"""Comparing a subtree of the source with the catalog, locally and in small steps: what follows a lost event, a
directory that appeared or moved, and the periodic scan. Nothing crosses the link but what turns out to differ."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from typing import Protocol

from i2core.api import Entry, Place
from i2core.api.entries import GONE
from i2core.rule.reading.catalog import Row
from i2core.rule.reading.source import Source


class Keeper(Protocol):
    """Who keeps replica and catalog in step: the reconciler."""

    def bring_walked(
        self, fd: int, place: Place, entry: Entry, row: Row | None, content: bool, todo: list[Place]
    ) -> None:
        """Brings the replica to what `entry` is; directories that turn up join `todo`."""

    def remove(self, place: Place, row: Row) -> None:
        """The source no longer has what was sent for `place`."""

    def touch_if_stale(self, row: Row, now: Entry) -> None:
        """Sets a directory's metadata when they are not what was sent."""

    def check_root(self, place: Place, *, tree: bool) -> None:
        """Looks at a root itself."""

    def guarded(self, place: Place, step: Callable[..., None], *args: object) -> None:
        """Takes a step; notes what cannot be read."""


def walk(source: Source, keeper: Keeper, top: Place) -> Iterator[None]:
    """Compares a subtree, one changed entry or one directory at each step. What vanished is only removed at the end: by
    then it has been found wherever it may have moved within the subtree."""
    catalog, tree = source.catalog, source.trees[top.root]
    if not top.path and not tree.is_present():
        keeper.check_root(top, tree=False)
        return
    missing: list[Place] = []
    todo = [top]
    while todo:
        place = todo.pop()
        here = catalog.get(place)
        if here is None or not stat.S_ISDIR(here.mode):
            continue  # a rename above has brought another object here; it has a walk of its own
        rows = catalog.children(here)
        try:
            with tree.directory(place.path) as fd:
                keeper.touch_if_stale(here, tree.here(fd))
                for entry in _changed(source, fd, place, rows, todo):
                    at = place.child(entry.name)
                    row = catalog.get(at)
                    changed = row is not None and stat.S_ISREG(entry.mode)
                    keeper.bring_walked(fd, at, entry, row, changed, todo)
                    yield
                    now = catalog.get(place)
                    if now is None or now.id != here.id:
                        break  # moved, or made anew: then it has a walk of its own
                else:
                    missing += [place.child(name) for name in rows]
        except OSError as error:
            if error.errno not in GONE:
                source.unreadable(place, error)
            continue
        yield
    for place in missing:
        keeper.guarded(place, _remove_missing, source, keeper, place)
        yield


def _changed(source: Source, fd: int, place: Place, rows: dict[bytes, Row], todo: list[Place]) -> Iterator[Entry]:
    """The entries of a directory that are not as their rows say. Names that another object has taken come last: the
    object that had one before may have been found by then under a new name. Leaves in `rows` what is missing, and adds
    directories to `todo` that are to be walked as well."""
    tree, replaced = source.trees[place.root], dict[bytes, Row]()
    for entry in tree.entries(fd, at_root=not place.path):
        row = rows.pop(entry.name, None)
        is_dir = stat.S_ISDIR(entry.mode)
        if not source.wants(place.child(entry.name), is_dir):
            continue
        if row is not None and not row.is_object(entry):
            replaced[entry.name] = row
            continue
        if row is not None and is_dir:
            todo.append(place.child(entry.name))
        if row is None or not row.untouched(entry):
            yield entry
    for name, row in replaced.items():
        # Looked at anew: what has become of it since, its own hints may have told, and nobody looks after this.
        now = tree.entry(fd, name)
        if now is None:
            rows[name] = row
        elif source.wants(place.child(name), stat.S_ISDIR(now.mode)):
            yield now


def _remove_missing(source: Source, keeper: Keeper, place: Place) -> None:
    catalog, tree = source.catalog, source.trees[place.root]
    row = catalog.get(place)
    directory, entry = catalog.get(place.above), tree.lookup(place.above.path)
    # A directory that is no longer where the replica has it takes with it what seems to be missing.
    if row is None or directory is None or entry is None or not directory.is_object(entry):
        return
    if tree.lookup(place.path) is None:
        keeper.remove(place, row)
