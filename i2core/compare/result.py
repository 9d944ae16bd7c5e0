"""The result of one compare: its totals, and each object that differs with the reasons; a SQLite file that is kept."""

from __future__ import annotations

import enum
import os
import sqlite3
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from i2core.api import Entry, Place
from i2core.posix.path_text import shown
from i2core.wire.questions import Examined


class Kind(enum.Enum):
    """In which way an object is not the same on both sides."""

    MISSING = "missing"
    """The replica lacks it."""
    DIFFERENT = "different"
    EXTRA = "extra"
    """Only the replica has it: an orphan. What is beneath it is not listed."""
    UNSETTLED = "unsettled"
    """It changed again and again while it was compared, or its change was still on its way."""
    UNREADABLE = "unreadable"
    """The source's object cannot be read."""


class Reason(enum.Enum):
    """What differs."""

    TYPE = "type"
    SIZE = "size"
    CONTENT = "content"
    TIME = "time"
    MODE = "mode"
    OWNER = "owner"
    XATTRS = "xattrs"
    LINKS = "links"
    """It is not the same file as under its other names, or has other names there."""
    OTHER = "other"
    """Anything else: inode flags, the text of a symlink, a device number, or who made the file there."""


DIFFERENCES = (Kind.MISSING, Kind.DIFFERENT, Kind.EXTRA)
_TABLES = """
CREATE TABLE IF NOT EXISTS item (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, root INTEGER NOT NULL, path BLOB NOT NULL, mode INTEGER NOT NULL,
    size INTEGER NOT NULL, size_there INTEGER NOT NULL, born_ns INTEGER NOT NULL, reasons TEXT NOT NULL,
    mended INTEGER NOT NULL, cause TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS item_kind ON item (kind, root, path);
"""


class Item(NamedTuple):
    """One object. `size` is the source's, `size_there` the replica's, in bytes; `mode` is that of the side that has
    it."""

    kind: Kind
    place: Place
    mode: int = 0
    size: int = 0
    size_there: int = 0
    born_ns: int = 0
    """When it was made on the replica, in ns since 1970; 0: not known."""
    reasons: Sequence[Reason] = ()
    cause: str = ""
    mended: bool = False

    def as_json(self, path: bytes) -> dict[str, Any]:
        """For programs; `path` is its absolute one on the source."""
        return {
            "kind": self.kind.value,
            "path": os.fsdecode(path),
            "shown": shown(path),
            "directory": stat.S_ISDIR(self.mode),
            "size": self.size,
            "size_there": self.size_there,
            "born_ns": self.born_ns or None,
            "reasons": [reason.value for reason in self.reasons],
            "cause": self.cause,
            "mended": self.mended,
        }


@attrs.define
class Totals:
    """Objects by what was found, directories included; `files` and `bytes` are those of the source."""

    files: int = 0
    bytes: int = 0
    objects: int = 0
    """All that the source has, with its directories."""
    found: dict[Kind, int] = attrs.field(factory=lambda: dict.fromkeys(Kind, 0))
    mended: int = 0

    @property
    def same(self) -> int:
        """Those that are the same on both sides."""
        there = sum(count for kind, count in self.found.items() if kind is not Kind.EXTRA)
        return max(0, self.objects - there)

    @property
    def differs(self) -> int:
        """What is not the same now."""
        return sum(self.found[kind] for kind in DIFFERENCES) - self.mended

    def as_json(self) -> dict[str, int]:
        """For programs."""
        counts = {kind.value: count for kind, count in self.found.items()}
        return (
            {"files": self.files, "bytes": self.bytes, "objects": self.objects, "same": self.same}
            | counts
            | {"mended": self.mended}
        )


class Result:
    """The items of one compare. Its calls block."""

    def __init__(self, path: Path | None) -> None:
        """`path`: where it is kept; None: it is gone when it is closed."""
        self._db = sqlite3.connect("" if path is None else path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Closes it."""
        self._db.close()

    def begin(self) -> None:
        """Forgets all."""
        self._db.execute("DELETE FROM item")

    def add(self, items: Iterable[Item]) -> None:
        """Adds items."""
        rows = [
            (
                item.kind.value,
                item.place.root,
                item.place.path,
                item.mode,
                min(item.size, (1 << 63) - 1),
                min(item.size_there, (1 << 63) - 1),
                item.born_ns,
                " ".join(reason.value for reason in item.reasons),
                int(item.mended),
                item.cause,
            )
            for item in items
        ]
        with self._transaction():
            self._db.executemany("INSERT INTO item VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def page(self, kinds: Iterable[Kind] = DIFFERENCES, *, after: int = 0, most: int = 1000) -> list[tuple[int, Item]]:
        """Up to `most` items of these kinds with their numbers, from the one after that number on."""
        wanted = [kind.value for kind in kinds]
        marks = ", ".join("?" * len(wanted))
        sql = f"SELECT * FROM item WHERE kind IN ({marks}) AND id > ? ORDER BY id LIMIT ?"  # noqa: S608 (marks alone)
        return [_item(row) for row in self._db.execute(sql, (*wanted, after, most))]

    def beneath(self, kind: Kind, place: Place, *, after: bytes = b"", most: int = 1000) -> list[tuple[int, Item]]:
        """Up to `most` items of that kind beneath a directory that are not mended, with their numbers, by path, from
        the one after that path on."""
        sql = (
            "SELECT * FROM item WHERE kind = ? AND root = ? AND path > ? AND path > ? AND path < ? AND NOT mended"
            " ORDER BY path LIMIT ?"
        )
        asked = (kind.value, place.root, after, *_bounds(place), most)
        return [_item(row) for row in self._db.execute(sql, asked)]

    def summed(self, kind: Kind, place: Place) -> tuple[int, int]:
        """How many items of that kind, not mended, are beneath a directory, and how many bytes the replica has of
        them."""
        sql = (
            "SELECT count(*), coalesce(sum(size_there), 0) FROM item"
            " WHERE kind = ? AND root = ? AND path > ? AND path < ? AND NOT mended"
        )
        count, size = self._db.execute(sql, (kind.value, place.root, *_bounds(place))).fetchone()
        return int(count), int(size)

    def at(self, kind: Kind, place: Place) -> tuple[int, Item] | None:
        """The item of that kind at a place, if it is not mended."""
        sql = "SELECT * FROM item WHERE kind = ? AND root = ? AND path = ? AND NOT mended"
        row = self._db.execute(sql, (kind.value, *place)).fetchone()
        return None if row is None else _item(row)

    def mended(self, numbers: Iterable[int]) -> None:
        """Notes that these items are the same now."""
        with self._transaction():
            self._db.executemany("UPDATE item SET mended = 1 WHERE id = ?", [(number,) for number in numbers])

    def _transaction(self) -> sqlite3.Connection:
        self._db.execute("BEGIN")
        return self._db


def _bounds(place: Place) -> tuple[bytes, bytes]:
    """The paths beneath a directory lie between these."""
    if not place.path:
        return b"", b"\xff" * 256  # longer than any name
    return place.path + b"/", place.path + b"0"  # "0" follows "/"


def _item(row: Sequence[Any]) -> tuple[int, Item]:
    number, kind, root, path, mode, size, size_there, born_ns, reasons, mended, cause = row
    found = [Reason(word) for word in reasons.split()]
    item = Item(Kind(kind), Place(root, path), mode, size, size_there, born_ns, found, cause, bool(mended))
    return number, item


def reasons_of(entry: Entry, there: Examined, *, owners: bool, content: bool) -> list[Reason]:
    """What differs between the two. `content`: their contents were read, and differ; `owners`: they can be the same."""
    if stat.S_IFMT(entry.mode) != stat.S_IFMT(there.mode):
        return [Reason.TYPE]
    found = []
    if stat.S_ISREG(entry.mode) and entry.size != there.size:
        found.append(Reason.SIZE)
    elif content:
        found.append(Reason.CONTENT)
    if entry.mtime_ns != there.mtime_ns:
        found.append(Reason.TIME)
    if not stat.S_ISLNK(entry.mode) and entry.mode != there.mode:
        found.append(Reason.MODE)
    if owners and (entry.uid, entry.gid) != (there.uid, there.gid):
        found.append(Reason.OWNER)
    if entry.xattrs != there.xattrs:
        found.append(Reason.XATTRS)
    if not stat.S_ISDIR(entry.mode) and entry.nlink != there.nlink:
        found.append(Reason.LINKS)
    return found or [Reason.OTHER]
