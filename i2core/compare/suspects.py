"""Names that seem to differ, until that is certain; on disk, so memory does not grow with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from i2core.api import Entry, Place

State = bytes
"""How an object of the source stood when it was looked at; empty: it was not there."""


class Suspect(NamedTuple):
    """One name in a directory; the directory itself where the name is empty."""

    name: bytes
    state: State
    link: bytes | None = None
    """The path of the first listed name of the same file, if there is an earlier one."""


class Suspects:
    """Those of one look, by directory. For worker threads."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute(
            "CREATE TABLE suspect (root INT, dir BLOB, name BLOB, state BLOB, link BLOB, PRIMARY KEY (root, dir, name))"
            " WITHOUT ROWID"
        )

    def close(self) -> None:
        """Forgets all."""
        self._db.close()

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM suspect").fetchone()[0])

    def add(self, directory: Place, suspects: Iterable[Suspect]) -> None:
        """Adds names of a directory."""
        rows = [(*directory, *suspect) for suspect in suspects]
        self._db.executemany("INSERT OR REPLACE INTO suspect VALUES (?, ?, ?, ?, ?)", rows)

    def take(self, most: int) -> tuple[Place, list[Suspect]] | None:
        """Removes and returns up to `most` names of one directory; None: there are none left."""
        first = self._db.execute("SELECT root, dir FROM suspect LIMIT 1").fetchone()
        if first is None:
            return None
        sql = "SELECT name, state, link FROM suspect WHERE root = ? AND dir = ? ORDER BY name LIMIT ?"
        found = [Suspect(*row) for row in self._db.execute(sql, (*first, most)).fetchall()]
        gone = "DELETE FROM suspect WHERE root = ? AND dir = ? AND name <= ?"
        self._db.execute(gone, (*first, found[-1].name))
        return Place(*first), found


def state_of(entry: Entry | None) -> State:
    """How it stands: it differs after any change of the object, and for another object."""
    if entry is None:
        return b""
    kept = entry.dev, entry.ino, entry.mode, entry.size, entry.mtime_ns, entry.ctime_ns
    return " ".join(map(str, kept)).encode()
