"""Knows which directory of a replica is the right one at its path, also after a restart.

A path is only a name. A local user who may write in a directory of the replica can rename the directories in it, and
put others in their place. So the inode number and the time of birth of each directory are kept, in a SQLite file beside
the position of the rule. There is a row for each directory that the sink has made or met. A rename changes one row,
whatever is beneath the directory.

What has no row is met for the first time, and is taken as it is. If the file cannot be used, for example after a power
cut, all directories are met for the first time again. Nothing depends on the file being up to date: a row that is too
old leads to a compare.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from i2core.posix.syscalls import born_ns

T = TypeVar("T")
MOST = 4096
"""So many rows are also kept in memory."""
_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS directory (
    id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL, inode INTEGER NOT NULL, born INTEGER NOT NULL,
    UNIQUE (parent, name)
) STRICT
"""
_FIND = "SELECT id, inode, born FROM directory WHERE parent = ? AND name = ?"
_PUT = """
INSERT INTO directory (parent, name, inode, born) VALUES (?, ?, ?, ?)
ON CONFLICT (parent, name) DO UPDATE SET inode = excluded.inode, born = excluded.born
"""
_MOVE = "UPDATE directory SET parent = ?, name = ? WHERE id = ?"
_SUBTREE = """
WITH RECURSIVE sub(id) AS (
    SELECT id FROM directory WHERE parent = ? UNION ALL
    SELECT directory.id FROM directory JOIN sub ON directory.parent = sub.id
) DELETE FROM directory WHERE id IN sub
"""
_DAMAGE = (sqlite3.Error, UnicodeDecodeError)
"""Errors of a damaged file. SQLite quotes the file's text in its message; Python fails if that is not UTF-8."""
_TOP = 0
"""The parent of the roots, which have their absolute paths as names."""


class Identity(NamedTuple):
    """No other directory of the file system ever has the same. Where it keeps no time of birth, and so may use an inode
    number again unnoticed, all directories have the same. Signed numbers of 64 bits."""

    inode: int
    born_ns: int

    @classmethod
    def of(cls, fd: int) -> Identity:
        """Of an open directory."""
        born = born_ns(fd)
        return cls(_signed(os.fstat(fd).st_ino), _signed(born)) if born else cls(0, 0)


class _Row(NamedTuple):
    id: int
    identity: Identity


class KnownDirectories:
    """The directories of one rule's replica. Thread-safe. `root` is always the absolute path of a root, `path` the path
    beneath it."""

    def __init__(self, path: Path | None, say: Callable[[str], None]) -> None:
        """`path`: the file; None keeps nothing when it is closed."""
        self._path = path
        self._say = say
        self._guard = threading.Lock()
        self._rows: dict[tuple[bytes, bytes], _Row] = {}
        self._database: sqlite3.Connection
        try:
            self._open(path)
        except (*_DAMAGE, OSError) as error:
            self._give_up(error)

    def begin(self, root: bytes, identity: Identity) -> None:
        """The root is this directory now. If it was another one before, nothing is known of what is beneath it."""
        known = self.get(root, b"")
        if known != identity:
            self.put(root, b"", identity, new=known is not None)

    def get(self, root: bytes, path: bytes) -> Identity | None:
        """The right directory; None when it was never met."""

        def find() -> Identity | None:
            row = self._find(root, path)[0]
            return None if row is None else row.identity

        return self._do(find)

    def unmet(self, root: bytes, path: bytes) -> list[bytes]:
        """The paths on the way to `path`, and itself, from the first one on that was never met."""

        def find() -> list[bytes]:
            row, end = self._find(root, path)
            return [] if row is not None else list(_prefixes(path, end))

        return self._do(find)

    def put(self, root: bytes, path: bytes, identity: Identity, *, new: bool = False) -> None:
        """This is the right one from now on. `new`: nothing is known of what is beneath it. Without a row for the
        directory above, nothing is noted."""

        def put() -> None:
            above = None
            if path:
                above, _ = self._find(root, path.rpartition(b"/")[0])
                if above is None:
                    return
            if new:
                self._drop(root, path)
            parent, name = (_TOP, root) if above is None else (above.id, path.rpartition(b"/")[2])
            self._begin()
            self._database.execute(_PUT, (parent, name, *identity))
            self._rows.pop((root, path), None)

        self._do(put)

    def move(self, root: bytes, old: bytes, new: bytes) -> None:
        """A directory was renamed, with all beneath it."""

        def move() -> None:
            self._drop(root, new)
            row, _ = self._find(root, old)
            above, _ = self._find(root, new.rpartition(b"/")[0])
            if row is not None and above is not None:
                self._begin()
                self._database.execute(_MOVE, (above.id, new.rpartition(b"/")[2], row.id))
            self._rows.clear()

        self._do(move)

    def drop(self, root: bytes, path: bytes) -> None:
        """A directory is gone, with all beneath it; for the root itself: all beneath it."""
        self._do(lambda: self._drop(root, path))

    def commit(self) -> None:
        """What was noted so far outlives the process."""

        def commit() -> None:
            if self._database.in_transaction:
                self._database.execute("COMMIT")

        self._do(commit)

    def close(self) -> None:
        """Closes the file."""
        with self._guard, contextlib.suppress(sqlite3.Error):
            if self._database.in_transaction:
                self._database.execute("COMMIT")
            self._database.close()

    # ------------------------------------------------------------------------------------------- the file

    def _do(self, work: Callable[[], T]) -> T:
        with self._guard:
            try:
                return work()
            except _DAMAGE as error:
                self._give_up(error)
                return work()

    def _open(self, path: Path | None) -> None:
        self._database = sqlite3.connect(path or "", check_same_thread=False, isolation_level=None)
        execute = self._database.execute
        try:
            # Exclusive: otherwise the log has an index in mapped memory, and a full disk kills the process by SIGBUS.
            execute("PRAGMA locking_mode = EXCLUSIVE")
            execute("PRAGMA journal_mode = WAL" if path else "PRAGMA journal_mode = MEMORY")
            execute("PRAGMA synchronous = NORMAL")
            if execute("PRAGMA user_version").fetchone() != (_VERSION,):
                execute("DROP TABLE IF EXISTS directory")
                execute(f"PRAGMA user_version = {_VERSION}")
            execute(_SCHEMA)
        except BaseException:
            self._database.close()
            raise

    def _give_up(self, error: Exception) -> None:
        """The file is damaged, its disk is full, or another process has it open: from now on memory must do."""
        self._rows.clear()
        with contextlib.suppress(sqlite3.Error, AttributeError):
            self._database.close()
        if self._path is not None:
            for each in files_of(self._path):
                with contextlib.suppress(OSError):
                    os.unlink(each)
            self._say(f"an exchanged directory of the replica may go unnoticed: {self._path}: {error}")
        self._path = None
        self._open(None)

    def _begin(self) -> None:
        if not self._database.in_transaction:
            self._database.execute("BEGIN")

    # ------------------------------------------------------------------------------------------- rows

    def _find(self, root: bytes, path: bytes) -> tuple[_Row | None, int]:
        """The row; or None, and the length of the path to the last directory on the way that has one (-1: not even the
        root has)."""
        end = len(path)
        while (row := self._rows.get((root, path[:end]))) is None and end > 0:
            end = max(0, path.rfind(b"/", 0, end))
        if row is None:
            row = self._read(_TOP, root, (root, b""))
        if row is None:
            return None, -1
        while end < len(path):
            start = end + 1 if end else 0
            stop = path.find(b"/", start)
            stop = len(path) if stop < 0 else stop
            below = self._read(row.id, path[start:stop], (root, path[:stop]))
            if below is None:
                return None, end
            row, end = below, stop
        return row, end

    def _read(self, parent: int, name: bytes, key: tuple[bytes, bytes]) -> _Row | None:
        found: Any = self._database.execute(_FIND, (parent, name)).fetchone()
        if found is None:
            return None
        row = _Row(found[0], Identity(found[1], found[2]))
        if len(self._rows) >= MOST:
            self._rows.clear()
        self._rows[key] = row
        return row

    def _drop(self, root: bytes, path: bytes) -> None:
        row, _ = self._find(root, path)
        if row is None:
            return
        self._begin()
        self._database.execute(_SUBTREE, (row.id,))
        if path:
            self._database.execute("DELETE FROM directory WHERE id = ?", (row.id,))
        self._rows.clear()


class KnownStores:
    """The files that the sinks of a process have open: a rule has one sink for each channel, and one file."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._open: dict[Path, tuple[KnownDirectories, int]] = {}

    def open(self, path: Path | None, say: Callable[[str], None]) -> KnownDirectories:
        """The directories in that file; `close` is called once for each call of this."""
        if path is None:
            return KnownDirectories(None, say)
        with self._guard:
            known, users = self._open.get(path) or (KnownDirectories(path, say), 0)
            self._open[path] = (known, users + 1)
            return known

    def close(self, path: Path | None, known: KnownDirectories) -> None:
        """A sink does not need it any more."""
        if path is None:
            known.close()
            return
        with self._guard:
            _, users = self._open[path]
            if users > 1:
                self._open[path] = (known, users - 1)
                return
            del self._open[path]
            known.close()


def files_of(path: Path) -> list[Path]:
    """The file, and those that SQLite may have made beside it."""
    return [path, *(path.with_name(path.name + tail) for tail in ("-wal", "-shm", "-journal"))]


def _prefixes(path: bytes, end: int) -> Iterator[bytes]:
    """The paths to the directories on the way, from the one after the first `end` bytes on."""
    if end < 0:
        yield b""
        end = 0
    while end < len(path):
        end = path.find(b"/", end + 1)
        end = len(path) if end < 0 else end
        yield path[:end]


def _signed(number: int) -> int:
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number
