"""The open database of a catalog, and the unit of work in which it is written.

Rows and the records that they describe are kept or dropped together: records are made within a unit of work (`unit`)
and passed on after it. A unit that raises leaves nothing in the catalog. The case that breaks otherwise: the catalog
says that a change was sent, its record is dropped with the error, and the change is never checked again.

The parts of a catalog share one database. Each part reads its cached content again when a unit of work is undone
(`after_undo`). Facts that any thread may note at any time are written with the next commit (`before_commit`,
`unsaved`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from i2core.posix.durable import sync_path
from i2core.rule.catalog.seal import put_seal

_NEXT_ID = "SELECT max((SELECT coalesce(max(id), 0) FROM node), (SELECT coalesce(max(id), 0) FROM inode)) + 1"
SUBTREE = "WITH RECURSIVE sub(id) AS (SELECT ? UNION ALL SELECT node.id FROM node JOIN sub ON node.parent = sub.id)"
"""The ids of a row and of all rows beneath it."""


class Database:
    """The file `path`, with the tables of `schema`; None keeps it in a temporary file that is gone at close. A file
    whose tables have another `version` is replaced by an empty one.

    Raises:
        sqlite3.DatabaseError: the file is damaged, or another program has it open.
    """

    def __init__(self, path: Path | None, schema: str, version: int) -> None:
        self._path = path
        self._connection = sqlite3.connect(path or "", check_same_thread=False, isolation_level=None)
        self.execute = self._connection.execute
        self.executemany = self._connection.executemany
        self._working = threading.Lock()
        """Held during a unit of work."""
        self._failed = False
        """A unit of work was undone; the state in memory of its maker may be wrong."""
        self.before_commit: list[Callable[[], None]] = []
        self.after_undo: list[Callable[[], None]] = []
        self.unsaved: Callable[[], bool] = lambda: False
        """Returns whether facts were noted outside of a unit of work and not committed yet."""
        try:
            self._set_up(schema, version)
            self._next_id = int(self.execute(_NEXT_ID).fetchone()[0])
        except UnicodeDecodeError as error:
            # SQLite quotes text of the file in its message; Python fails if that is not UTF-8.
            self._connection.close()
            raise sqlite3.DatabaseError(f"its schema is no text: {error}") from error
        except BaseException:
            self._connection.close()  # at once: it may hold a lock
            raise

    def _set_up(self, schema: str, version: int) -> None:
        # Exclusive: otherwise the log has an index in mapped memory, and a full disk kills the process by SIGBUS.
        self.execute("PRAGMA locking_mode = EXCLUSIVE")
        # If a crash loses the last transactions, a little is compared once more.
        self.execute("PRAGMA journal_mode = WAL" if self._path else "PRAGMA journal_mode = TRUNCATE")
        self.execute("PRAGMA synchronous = OFF")
        self.execute("PRAGMA cache_size = -16000")
        self.execute("PRAGMA temp_store = FILE")
        if self.execute("PRAGMA user_version").fetchone() != (version,):
            for (table,) in self.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                self.execute(f"DROP TABLE {table}")
            self.execute(f"PRAGMA user_version = {version}")
        self._check()
        self._connection.executescript(schema)
        self.execute("BEGIN")
        # Digests of an unfinished file may have an id without a row.
        self.execute("DELETE FROM blocks WHERE node NOT IN (SELECT id FROM node UNION SELECT id FROM inode)")

    def _check(self) -> None:
        """Reads the whole file before it is used: about 0.2 s for a million objects. As the tables are strict, SQLite
        also finds a number that has become text, which would make the code fail later.

        Raises:
            sqlite3.DatabaseError: it is damaged.
        """
        (found,) = self.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)

    def new_id(self) -> int:
        """A new id, unused both for objects and for shared inodes."""
        self._next_id += 1
        return self._next_id - 1

    @contextmanager
    def unit(self) -> Iterator[None]:
        """A unit of work: a transaction, which is kept as a whole or not at all. Not to be nested. Its records may be
        passed on only after it.

        Raises: sqlite3.Error: it could not be kept. Any error of the body is raised as it is. In both cases nothing of
        the unit is left. A caller may handle an `OSError` if it gives up everything that the unit was about. Any other
        error ends the run, since other parts cannot undo their own state of this unit."""
        with self._working:
            self.commit()  # earlier notes are kept, whatever becomes of this unit
            try:
                yield
                self.commit()
            except BaseException as error:
                self._failed |= not isinstance(error, OSError)
                with suppress(sqlite3.Error):
                    self._undo()
                raise
        self.commit_soon()

    def _undo(self) -> None:
        """Returns to the end of the last unit of work."""
        if self._connection.in_transaction:
            self.execute("ROLLBACK")
        self.execute("BEGIN")
        for each in self.after_undo:
            each()

    def commit(self) -> None:
        """Makes all notes so far survive a crash. Called by the worker of the catalog, outside of a unit."""
        for each in self.before_commit:
            each()
        self.execute("COMMIT")
        self.execute("BEGIN")

    def commit_soon(self) -> None:
        """Commits facts that were noted outside of a unit: at once, or with the running unit."""
        while self.unsaved() and self._working.acquire(blocking=False):
            try:
                self.commit()
            finally:
                self._working.release()

    def close(self, *, clean: bool) -> None:
        """Closes the database. `clean`: the run ended in order, so the next one may rely on all notes here; unless a
        unit of work failed, since the state of its maker is lost then. Without `clean` the file is as after a killed
        process: an unfinished unit is dropped."""
        # A full disk may have undone the unit of work: then this is no orderly end, and it must not be marked as one.
        clean = clean and not self._failed and self._connection.in_transaction
        try:
            if clean:
                for each in self.before_commit:
                    each()
                self.execute("COMMIT")
                self.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            else:
                with suppress(sqlite3.Error):
                    self._undo()
                    self.commit()
        finally:
            self._connection.close()
        if clean and self._path is not None:
            sync_path(self._path)
            put_seal(self._path)
