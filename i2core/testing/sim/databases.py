"""The SQLite files of nodes: real files in a private directory, one directory for each life; in memory if this
user may write there. The index of a history has a directory of its own in that of the backup node (`indexes`).

SQLite itself is the real one, so a killed process leaves its files as they are at that moment. A power cut may also
leave an older state, as far as nothing was synced (a shorter write-ahead log), or damage. Bits of a file may flip while
no process has it open, and SQLite may find damage at any statement.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from i2core.testing.sim.indexes import IndexFiles
from i2core.testing.sim.machine import Killed, running

_MEMORY = Path("/dev/shm")


_WRITES = ("INSERT", "UPDATE", "DELETE", "COMMIT")


class Sqlite:
    """Replaces the module `sqlite3`. Its connections find damage, or a full disk, at a statement that the plan
    chooses."""

    def __init__(self) -> None:
        self.statements_left = 0
        """Number of statements until one finds its file damaged; 0: none does."""
        self._writes_left = 0
        self._lacking = 0
        """So many more statements find no room; negative: all, until there is room again."""
        self._undoes = False
        self.elsewhere: Callable[[str], Path | str | None] = lambda path: None
        """Where on this host the backup node has what it opens by this path; empty: nowhere, it is temporary. None: it
        is the work node's. Only those find damage and a full disk."""
        self.indexes = IndexFiles()

    def fill(self, writes: int, lacking: int, *, undoes: bool) -> None:
        """After `writes` writing statements the disk is full, for `lacking` statements. `undoes`: SQLite then rolls its
        transaction back, as it may."""
        self._writes_left, self._lacking, self._undoes = writes, lacking, undoes

    def make_room(self) -> None:
        """Statements that find no room at present get some; a shortage that has not begun yet still comes."""
        if not self._writes_left:
            self._lacking = 0

    def heal(self) -> None:
        """No statement finds its disk full any more."""
        self._writes_left = self._lacking = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(sqlite3, name)

    def connect(self, *arguments: Any, **named: Any) -> sqlite3.Connection:
        """As `sqlite3.connect`."""
        watch = self
        machine = running.get()
        if machine is not None and machine.dead:
            raise Killed
        here = self.elsewhere(str(arguments[0]))
        if here is not None:
            factory = self.indexes.connections(here)
            connection: sqlite3.Connection = sqlite3.connect(here, *arguments[1:], **named, factory=factory)
            return connection

        class Connection(sqlite3.Connection):
            def execute(self, *arguments: Any) -> sqlite3.Cursor:
                watch.step(self, arguments[0])
                return super().execute(*arguments)

            def executemany(self, *arguments: Any) -> sqlite3.Cursor:
                watch.step(self, arguments[0])
                return super().executemany(*arguments)

        return sqlite3.connect(*arguments, **named, factory=Connection)

    def step(self, connection: sqlite3.Connection, statement: str) -> None:
        """Counts a statement.

        Raises:
            sqlite3.DatabaseError: this one finds damage, or a full disk.
        """
        if self._lacking and statement.lstrip().startswith(_WRITES):
            self._writes_left = max(0, self._writes_left - 1)
            if not self._writes_left:
                self._lacking -= 1
                if self._undoes and connection.in_transaction:
                    connection.rollback()
                full = sqlite3.OperationalError("database or disk is full")
                full.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise full
        if self.statements_left:
            self.statements_left -= 1
            if not self.statements_left:
                raise sqlite3.DatabaseError("database disk image is malformed")


class Databases:
    """The state directories of work nodes, and the SQLite files in that of the backup node."""

    def __init__(self) -> None:
        in_memory = os.access(_MEMORY, os.W_OK | os.X_OK)
        self.home = Path(tempfile.mkdtemp(prefix="i2-sim-", dir=_MEMORY if in_memory else None))
        """The only directory of this host that is written."""
        self.sqlite = Sqlite()
        self._lives = itertools.count()
        self._current: dict[str, Path] = {}
        self.damaged: set[str] = set()
        """The nodes whose files have been damaged. What they know of their sources may be lost then."""

    def directory(self, node: str) -> Path:
        """The state directory of the node's present or next life."""
        if node not in self._current:
            self._current[node] = self._fresh()
        return self._current[node]

    def _fresh(self) -> Path:
        path = self.home / str(next(self._lives))
        path.mkdir(0o700)
        return path

    def killed(self, node: str) -> None:
        """A process died. Its next life finds the files as they are now, whatever the connections of the dead process
        still do."""
        before, after = self.directory(node), self._fresh()
        self._current[node] = after
        no_memory = shutil.ignore_patterns("*-shm")  # shared memory of the processes, which ends with the last one
        shutil.copytree(before, after, ignore=no_memory, dirs_exist_ok=True, copy_function=shutil.copyfile)
        self.sqlite.indexes.moved(before, after)

    def flip(self, node: str, chance: Random) -> None:
        """Flips bits of the node's files while it is down."""
        self.damaged.add(node)
        for file in sorted(self.directory(node).iterdir()):
            data = bytearray(file.read_bytes())
            for _ in range(chance.choice((1, 1, 8, 100)) if data else 0):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            file.write_bytes(data)

    def forget(self, node: str) -> None:
        """The node's next life finds no files."""
        self._current[node] = self._fresh()

    def power_cut(self, node: str, chance: Random) -> str:
        """As `killed`, but not everything was written. Returns what happened to the files, in words."""
        self.killed(node)
        fate = chance.choice(("kept", "older", "older", "lost", "damaged"))
        if fate == "damaged":
            self.damaged.add(node)
        for file in sorted(file for file in self.directory(node).iterdir() if file.is_file()):
            size = file.stat().st_size
            if fate == "lost":
                file.unlink()
            elif fate == "older" and file.name.endswith("-wal"):
                os.truncate(file, chance.randint(0, size))
            elif fate == "damaged" and size:
                with file.open("r+b") as damaged:
                    damaged.seek(chance.randrange(size))
                    damaged.write(chance.randbytes(200))
        return fate

    def cut_indexes(self, node: str, chance: Random) -> None:
        """As `power_cut`, for the indexes of histories, whose files tell what they rely on."""
        self.sqlite.indexes.power_cut(self.directory(node), chance)

    def close(self) -> None:
        """Removes all files."""
        shutil.rmtree(self.home)
