"""Compares a subtree of the source with the catalog, locally and in small steps: after a lost event, after a directory
appeared or moved, and in the periodic scan. Only differences are sent."""

from __future__ import annotations

import stat
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from i2core.api import Entry, Place
from i2core.api.tree import OpenDirectory
from i2core.posix.errnos import GONE
from i2core.rule.catalog.rows import Row
from i2core.rule.live.found import Found
from i2core.rule.source.source import Source


class Keeper(Protocol):
    """Acts on the findings of a walk: the reconciler."""

    def bring_walked(self, found: Found, row: Row | None, content: bool, todo: list[Place]) -> None:
        """Brings the replica to the state that was found; new directories are added to `todo`."""

    def remove(self, place: Place, row: Row) -> None:
        """The source no longer has what was sent for `place`."""

    def touch_if_stale(self, row: Row, now: Entry) -> None:
        """Sets a directory's metadata if they differ from those that were sent."""

    def check_root(self, place: Place, *, tree: bool) -> None:
        """Checks a root itself."""

    def guarded(self, place: Place, step: Callable[..., None], *args: object) -> None:
        """Runs a step; notes an object that cannot be read."""


def walk(source: Source, keeper: Keeper, top: Place) -> Generator[None, None, None]:
    """Compares a subtree, one changed entry or one directory at each step. Names that vanished are removed only at the
    end: by then an object that moved within the subtree has been found at its new name."""
    catalog, tree = source.catalog, source.trees[top.root]
    if not top.path and not tree.is_present():
        keeper.check_root(top, tree=False)
        return
    missing: list[Place] = []
    todo = [top]
    while todo:
        place = todo.pop()
        here = catalog.objects.get(place)
        if here is None or not stat.S_ISDIR(here.mode):
            continue  # a rename above has moved another object here; it has a walk of its own
        rows = catalog.objects.children(here)
        try:
            with tree.directory(place.path) as directory:
                source.name_flags(place, directory)
                keeper.touch_if_stale(here, directory.here())
                for entry in _changed(source, directory, place, rows, todo):
                    at = place.child(entry.name)
                    row = catalog.objects.get(at)
                    changed = row is not None and stat.S_ISREG(entry.mode)
                    keeper.bring_walked(Found(directory, at, entry), row, changed, todo)
                    yield
                    now = catalog.objects.get(place)
                    if now is None or now.id != here.id:
                        break  # moved, or created again: then it has a walk of its own
                else:
                    missing += [place.child(name) for name in rows]
        except OSError as error:
            if error.errno not in GONE:
                source.unreadable(place, error)
            continue
        yield
    for place in missing:
        # If it is put off, the whole directory is walked again: a check of the name alone would not know that it was
        # removed.
        keeper.guarded(place.above, _remove_missing, source, keeper, place)
        yield


def _changed(
    source: Source, directory: OpenDirectory, place: Place, rows: dict[bytes, Row], todo: list[Place]
) -> Iterator[Entry]:
    """The entries of a directory that differ from their rows. Names that belong to another object now come last: by
    then the previous object may have been found under a new name. Missing names stay in `rows`; directories to be
    walked are added to `todo`."""
    replaced = dict[bytes, Row]()
    for entry in directory.entries():
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
        # Read again: later changes may have been reported already, and nothing checks the entry after this.
        now = directory.entry(name)
        if now is None:
            rows[name] = row
        elif source.wants(place.child(name), stat.S_ISDIR(now.mode)):
            yield now


def _remove_missing(source: Source, keeper: Keeper, place: Place) -> None:
    catalog, tree = source.catalog, source.trees[place.root]
    row = catalog.objects.get(place)
    directory, entry = catalog.objects.get(place.above), tree.lookup(place.above.path)
    # If the directory itself is no longer where the replica has it, the entries that seem missing have moved with it.
    if row is None or directory is None or entry is None or not directory.is_object(entry):
        return
    if tree.lookup(place.path) is None:
        keeper.remove(place, row)
