"""The files with several names that a survey has listed already; on disk, so memory does not grow with the tree."""

from __future__ import annotations

import sqlite3

from i2core.api import Entry
from i2core.rule.catalog.rows import signed


class LinkTable:
    """First listed names of files with several names, during one survey."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute(
            "CREATE TABLE link (root INT, dev INT, ino INT, path BLOB, PRIMARY KEY (root, dev, ino)) WITHOUT ROWID"
        )

    def close(self) -> None:
        """Forgets all."""
        self._db.close()

    def first(self, root: int, entry: Entry, path: bytes) -> bytes | None:
        """The earlier listed name of the same file; None makes `path` that name."""
        key = (root, signed(entry.dev), signed(entry.ino))
        found = self._db.execute("SELECT path FROM link WHERE root = ? AND dev = ? AND ino = ?", key).fetchone()
        if found is None:
            self._db.execute("INSERT INTO link VALUES (?, ?, ?, ?)", (*key, path))
            return None
        return bytes(found[0]) if found[0] != path else None
