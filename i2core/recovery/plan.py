"""What a recovery would do: compares the recovered state with the destination as it stands, and writes nothing there.

Both sides are read as trees in this process, without the sink, which would make what is missing. What an entry needs is
decided by the same comparison as in a mirror. Two figures are upper bounds, unless contents are compared (`strict`): a
file of another time and the same size counts as replaced, and all its bytes, though only blocks that differ are sent.
"""

from __future__ import annotations

import enum
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import attrs

from i2core.api import Entry, Filter, Place
from i2core.api.changes import join
from i2core.api.threads import check_cancelled
from i2core.api.tree import AttributesUnreadable, OpenDirectory, Tree
from i2core.posix.errnos import GONE
from i2core.recovery.order import Extra
from i2core.recovery.pieces import have_same_content
from i2core.rule.backup.session.compare import Comparison, same_meta
from i2core.rule.survey.links import LinkTable
from i2core.wire.listing import Listed, Verdict

_MOST = 1000
"""Entries that are read at a time."""
_NAMES_MOST = 100_000
"""Names of one directory that are remembered; of a larger one each name of the destination is looked up."""
_OURS = b".i2-"
"""Names of the sink's own directories begin so; an interrupted recovery leaves one."""


class What(enum.Enum):
    """What happens to a name of the destination."""

    CREATE = "create"
    REPLACE = "replace"
    ATTRIBUTES = "attributes"
    """Only owner, mode, time, extended attributes or flags are set."""
    REMOVE = "remove"
    ASIDE = "aside"
    KEEP = "keep"
    """It is extra, and stays. What is beneath it is not listed."""
    UNREADABLE = "unreadable"
    """It cannot be read, here or there: a recovery would report it as failed."""


class Item(NamedTuple):
    """One name. `mode`: of the object that comes, or of the extra one. `newer`: what stands there was changed later
    than what would replace it."""

    path: bytes
    what: What
    mode: int
    size: int
    newer: bool = False


@attrs.define
class Total:
    """Names of one kind, their bytes, and how many are newer at the destination."""

    count: int = 0
    size: int = 0
    newer: int = 0


class Plan:
    """The names that would change, on disk, so that memory does not grow with them. Its calls block."""

    def __init__(self) -> None:
        self.totals = {what: Total() for what in What}
        self.files = self.bytes = 0
        """All that is recovered, equal or not; directories do not count."""
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, path BLOB, what TEXT, mode INT, size INT, newer INT)"
        )

    @property
    def equal(self) -> bool:
        """True when nothing would be done; extra files that stay do not count."""
        return not any(total.count for what, total in self.totals.items() if what is not What.KEEP)

    def add(self, item: Item) -> None:
        """Adds a name after the others."""
        total = self.totals[item.what]
        total.count += 1
        total.size += item.size
        total.newer += item.newer
        row = (item.path, item.what.value, item.mode, item.size, item.newer)
        self._db.execute("INSERT INTO item (path, what, mode, size, newer) VALUES (?, ?, ?, ?, ?)", row)

    def page(self, first: int = 0, most: int = 1000) -> list[Item]:
        """Up to `most` names from the one with that number on, counted from 0: in the order of the tree, directories
        before what is in them."""
        found = self._db.execute("SELECT * FROM item WHERE id > ? ORDER BY id LIMIT ?", (first, most))
        return [Item(path, What(what), mode, size, bool(newer)) for _, path, what, mode, size, newer in found]

    def close(self) -> None:
        """Forgets all."""
        self._db.close()


@attrs.frozen(kw_only=True)
class Comparing:
    """The two sides, and how they are compared."""

    wanted: Tree
    there: Tree | None
    """None: there is no destination yet."""
    owns: bool
    """Who writes the destination can set owners."""
    filter: Filter | None
    is_shell: Callable[[bytes], bool]
    extra: Extra
    strict: bool


def make_plan(sides: Comparing, plan: Plan) -> None:
    """Fills an empty plan; for worker threads.

    Raises:
        RootGone: a side is gone.
        trio.Cancelled: nobody waits for the result any more.
    """
    links = LinkTable()
    try:
        _Walk(sides, plan, links).run()
    finally:
        links.close()


class _Walk:
    """One walk over both sides, directory by directory."""

    def __init__(self, sides: Comparing, plan: Plan, links: LinkTable) -> None:
        self._sides = sides
        self._plan = plan
        self._links = links
        self._comparison = Comparison(owns=sides.owns)
        self._waiting: list[tuple[bytes, bool]] = []
        """Directories to be compared, each with whether the destination has one of that path."""

    def run(self) -> None:
        self._waiting.append((b"", self._sides.there is not None))
        while self._waiting:
            path, is_there = self._waiting.pop()
            check_cancelled()
            with self._sides.wanted.job():
                self._directory(path, is_there)

    def _directory(self, path: bytes, is_there: bool) -> None:
        mode = stat.S_IFDIR
        try:
            with self._sides.wanted.directory(path) as wanted:
                there = self._open_there(path) if is_there else None
                try:
                    self._compare(path, wanted, there)
                finally:
                    if there is not None:
                        there.close()
        except OSError:
            self._plan.add(Item(path, What.UNREADABLE, mode, 0))

    def _open_there(self, path: bytes) -> OpenDirectory:
        assert self._sides.there is not None
        return self._sides.there.directory(path)

    def _compare(self, path: bytes, wanted: OpenDirectory, there: OpenDirectory | None) -> None:
        here = wanted.here()
        if there is not None and not self._sides.is_shell(path) and not self._alike(here, there.here()):
            self._plan.add(Item(path, What.ATTRIBUTES, here.mode, 0))
        names: set[bytes] | None = set()
        below: list[tuple[bytes, bool]] = []

        def unread(error: AttributesUnreadable) -> None:
            self._plan.add(Item(join(path, error.filename), What.UNREADABLE, 0, 0))
            if names is not None:
                names.add(error.filename)

        for part in wanted.listing(_MOST, unread):
            check_cancelled()
            chosen = [entry for entry in part if self._wants(join(path, entry.name), stat.S_ISDIR(entry.mode))]
            found = _look(there, [entry.name for entry in chosen])
            for entry in chosen:
                self._entry(path, entry, wanted, there, found, below)
            if names is not None:
                names.update(entry.name for entry in part)
                names = names if len(names) <= _NAMES_MOST else None
        if there is not None:
            self._extra(path, wanted, there, names)
        self._waiting += reversed(below)

    def _alike(self, entry: Entry, there: Entry) -> bool:
        return same_meta(entry, there, owns=self._sides.owns)

    def _entry(
        self,
        path: bytes,
        entry: Entry,
        wanted: OpenDirectory,
        there: OpenDirectory | None,
        looked: Mapping[bytes, Entry | None],
        below: list[tuple[bytes, bool]],
    ) -> None:
        at, is_dir = join(path, entry.name), stat.S_ISDIR(entry.mode)
        self._plan.files += not is_dir
        self._plan.bytes += entry.size if stat.S_ISREG(entry.mode) else 0
        if entry.name not in looked:
            self._plan.add(Item(at, What.UNREADABLE, entry.mode, entry.size))
            return
        found = looked[entry.name]
        try:
            verdict = self._verdict(at, entry, found)
            if verdict & Verdict.BLOCKS and self._sides.strict and self._same_content(entry, found, wanted, there):
                verdict &= ~Verdict.BLOCKS
        except OSError:
            self._plan.add(Item(at, What.UNREADABLE, entry.mode, entry.size))
            return
        if is_dir:
            below.append((at, found is not None and stat.S_ISDIR(found.mode)))
        if verdict:
            self._differs(at, entry, found, verdict)

    def _verdict(self, at: bytes, entry: Entry, found: Entry | None) -> Verdict:
        link = head = None
        if entry.nlink > 1 and not stat.S_ISDIR(entry.mode):
            link = self._links.first(0, entry, at)
        if link is not None and self._sides.there is not None:
            head = self._sides.there.lookup(link)
        return self._comparison.judge((0, at), Listed(entry, link), found, head, strict=self._sides.strict)

    def _differs(self, at: bytes, entry: Entry, found: Entry | None, verdict: Verdict) -> None:
        size = entry.size if stat.S_ISREG(entry.mode) and not verdict & Verdict.LINK else 0
        if found is None:
            self._plan.add(Item(at, What.CREATE, entry.mode, size))
        elif verdict == Verdict.META:
            self._plan.add(Item(at, What.ATTRIBUTES, entry.mode, 0))
        else:
            self._plan.add(Item(at, What.REPLACE, entry.mode, size, newer=found.mtime_ns > entry.mtime_ns))
            if stat.S_ISDIR(found.mode) and not stat.S_ISDIR(entry.mode):
                for path, gone in self._each_beneath(at, every=True):
                    self._plan.add(_gone(path, gone, What.REMOVE))

    def _same_content(
        self, entry: Entry, found: Entry | None, wanted: OpenDirectory, there: OpenDirectory | None
    ) -> bool:
        """True when both files have the same bytes; only asked of files that are there on both sides."""
        if there is None or found is None or found.size != entry.size:
            return False
        with wanted.open(entry.name) as one, there.open(entry.name) as other:
            return have_same_content(one, other, entry.size)

    # ------------------------------------------------------------------ what only the destination has

    def _extra(self, path: bytes, wanted: OpenDirectory, there: OpenDirectory, names: set[bytes] | None) -> None:
        for part in there.listing(_MOST):
            check_cancelled()
            for entry in part:
                at = join(path, entry.name)
                is_extra = wanted.entry(entry.name) is None if names is None else entry.name not in names
                if is_extra and not entry.name.startswith(_OURS) and self._covers(at):
                    self._add_extra(at, entry)

    def _add_extra(self, at: bytes, entry: Entry) -> None:
        what = {Extra.KEEP: What.KEEP, Extra.ASIDE: What.ASIDE, Extra.DELETE: What.REMOVE}[self._sides.extra]
        if what is What.KEEP or not stat.S_ISDIR(entry.mode):
            self._plan.add(_gone(at, entry, what))
            return
        stays = self._stays(at)
        if at not in stays:
            self._plan.add(_gone(at, entry, what))
        for path, gone in self._each_beneath(at):
            if path not in stays and self._covers(path):
                self._plan.add(_gone(path, gone, what))

    def _stays(self, top: bytes) -> set[bytes]:
        """An extra directory, and those in it, that have an excluded name beneath them: they stay for its sake."""
        stays: set[bytes] = set()
        if self._sides.filter is None:
            return stays
        for at, _ in self._each_beneath(top):
            if not self._covers(at):
                above = at.rpartition(b"/")[0]
                while len(above) >= len(top) and above not in stays:
                    stays.add(above)
                    above = above.rpartition(b"/")[0]
        return stays

    def _each_beneath(self, top: bytes, *, every: bool = False) -> Iterator[tuple[bytes, Entry]]:
        """What is beneath a directory of the destination; beneath an excluded name only with `every`."""
        waiting = [top]
        while waiting:
            path = waiting.pop()
            check_cancelled()
            try:
                with self._open_there(path) as directory:
                    for entry in _each(directory.listing(_MOST)):
                        at = join(path, entry.name)
                        yield at, entry
                        if stat.S_ISDIR(entry.mode) and (every or self._covers(at)):
                            waiting.append(at)
            except OSError as error:
                if error.errno not in GONE:
                    self._plan.add(Item(path, What.UNREADABLE, stat.S_IFDIR, 0))

    def _wants(self, at: bytes, is_dir: bool) -> bool:
        return self._sides.filter is None or self._sides.filter.wants(Place(0, at), is_dir)

    def _covers(self, at: bytes) -> bool:
        """As in a mirror: a name that is excluded as a file or as a directory is left alone."""
        return self._wants(at, is_dir=False) and self._wants(at, is_dir=True)


def _gone(at: bytes, entry: Entry, what: What) -> Item:
    """An object of the destination that does not stay where it is."""
    return Item(at, what, entry.mode, entry.size if stat.S_ISREG(entry.mode) else 0)


def _each(parts: Iterable[list[Entry]]) -> Iterator[Entry]:
    for part in parts:
        yield from part


def _look(there: OpenDirectory | None, names: list[bytes]) -> dict[bytes, Entry | None]:
    """The entries of these names at the destination, all at once where that works. Those that are there and cannot be
    read are left out."""
    if there is None:
        return dict.fromkeys(names)
    try:
        return dict(zip(names, there.look(names), strict=True))
    except AttributesUnreadable:
        if len(names) == 1:
            return {}
    return {name: entry for one in names for name, entry in _look(there, [one]).items()}
