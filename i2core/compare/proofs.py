"""What the scrub of a rule remembers: which content was proved equal on both sides, and which files it holds back.

A file is known by its inode number, size and modification time. If one of them changes, it is another content, about
which nothing is known. The content proved last tells which side has changed where both have that size and time: the one
that is not equal to it any more.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from i2core.api import Entry, Place
from i2core.rule.catalog.rows import signed

_TABLES = """
CREATE TABLE IF NOT EXISTS proof (
    root INTEGER, ino INTEGER, size INTEGER, mtime TEXT, digest BLOB, proved_ns INTEGER, PRIMARY KEY (root, ino)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS held (
    root INTEGER, ino INTEGER, size INTEGER, mtime TEXT, path BLOB, since_ns INTEGER, PRIMARY KEY (root, ino)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value);
"""


class Held(NamedTuple):
    """A file whose content is not sent. `place`: where it was found."""

    place: Place
    since_ns: int


class Proofs:
    """The memory of one rule, in a file. Any thread may call it."""

    def __init__(self, path: Path | None) -> None:
        """`path`: None keeps it in memory.

        Raises:
            sqlite3.DatabaseError: the file is damaged; it may be removed.
        """
        self._lock = threading.Lock()
        self._db = sqlite3.connect(":memory:" if path is None else path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_TABLES)
        found = self._db.execute("SELECT root, ino, size, mtime FROM held")
        self._held = {(root, ino): (size, mtime) for root, ino, size, mtime in found}

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    # ------------------------------------------------------------------------------------------ contents

    def prove(self, root: int, files: Iterable[tuple[Entry, bytes]], now_ns: int) -> None:
        """These files have this content on both sides, by its digest."""
        rows = [(*_key(root, entry), *_looks(entry), digest, now_ns) for entry, digest in files]
        with self._lock:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO proof VALUES (?, ?, ?, ?, ?, ?)", rows)
            for row in rows:
                if self._held.pop(row[:2], None) is not None:
                    self._db.execute("DELETE FROM held WHERE root = ? AND ino = ?", row[:2])
            self._db.execute("COMMIT")

    def proved(self, root: int, entry: Entry) -> bytes | None:
        """The digest of the content that was proved last; None: nothing is known about this content."""
        sql = "SELECT digest FROM proof WHERE root = ? AND ino = ? AND size = ? AND mtime = ?"
        with self._lock:
            row = self._db.execute(sql, (*_key(root, entry), *_looks(entry))).fetchone()
        return None if row is None else bytes(row[0])

    def forget_before(self, proved_ns: int) -> None:
        """Forgets files that were not proved since then: they are gone, or their content is another one."""
        with self._lock:
            self._db.execute(
                "DELETE FROM proof WHERE proved_ns < ?"
                " AND NOT EXISTS (SELECT 1 FROM held WHERE held.root = proof.root AND held.ino = proof.ino)",
                (proved_ns,),
            )

    # ------------------------------------------------------------------------------------------ held back

    def hold(self, place: Place, entry: Entry, now_ns: int) -> bool:
        """The content of this file is not to be sent. False: it is held already."""
        key = _key(place.root, entry)
        with self._lock:
            if self._held.get(key) == _looks(entry):
                return False
            self._held[key] = _looks(entry)
            row = (*key, *_looks(entry), place.path, now_ns)
            self._db.execute("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?, ?)", row)
        return True

    def holds(self, place: Place, entry: Entry) -> bool:
        """True for a file whose content is not to be sent."""
        return bool(self._held) and self._held.get(_key(place.root, entry)) == _looks(entry)

    def release(self, place: Place) -> bool:
        """The file found at that place may be sent again; False: none is held there."""
        with self._lock:
            sql = "SELECT root, ino FROM held WHERE root = ? AND path = ?"
            keys = self._db.execute(sql, place).fetchall()
            for key in keys:
                self._held.pop(key, None)
                self._db.execute("DELETE FROM held WHERE root = ? AND ino = ?", key)
                self._db.execute("DELETE FROM proof WHERE root = ? AND ino = ?", key)
        return bool(keys)

    def held(self, most: int = 1000) -> list[Held]:
        """Up to `most` of the files that are held back, the oldest first."""
        with self._lock:
            rows = self._db.execute("SELECT root, path, since_ns FROM held ORDER BY since_ns LIMIT ?", (most,))
            return [Held(Place(root, path), since_ns) for root, path, since_ns in rows]

    @property
    def held_count(self) -> int:
        """How many files are held back."""
        return len(self._held)

    # ------------------------------------------------------------------------------------------ the pass

    def note(self, **facts: int | bytes | None) -> None:
        """Remembers facts about the passes."""
        with self._lock:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO fact VALUES (?, ?)", facts.items())
            self._db.execute("COMMIT")

    def number(self, name: str) -> int | None:
        """A fact that is a number."""
        found = self._fact(name)
        return found if isinstance(found, int) else None

    def text(self, name: str) -> bytes | None:
        """A fact that is bytes."""
        found = self._fact(name)
        return found if isinstance(found, bytes) else None

    def _fact(self, name: str) -> object:
        with self._lock:
            row: Sequence[object] | None = self._db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]


def _key(root: int, entry: Entry) -> tuple[int, int]:
    return root, signed(entry.ino)


def _looks(entry: Entry) -> tuple[int, str]:
    """Size and time; the time as text, since it may need more than 64 bits."""
    return signed(entry.size), str(entry.mtime_ns)
