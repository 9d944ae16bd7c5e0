"""The SQLite files of the indexes of histories: how they become durable, and what a power cut leaves of them.

Each directory below that of the backup node belongs to one index. A node may die when it commits and when it syncs. A
file is what it was when it was synced last, or what was written since: each file by itself, as no two of them are
synced at the same time.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from random import Random
from typing import Any

from i2core.testing.sim.machine import SYNC, WRITE, Killed, running

_ENDS = ("", "-wal")
_SYNC = "pragma wal_checkpoint"
_STEPS = {"commit": WRITE, "pragma synchronous=full": SYNC, "pragma synchronous=normal": SYNC}
"""Statements at which the node may die, and what they are."""


class IndexFiles:
    """All indexes of a backup node."""

    def __init__(self) -> None:
        self._synced: dict[Path, dict[str, bytes]] = {}
        """Each file as it was synced last, with the log that belongs to it."""

    def connections(self, path: Path | str) -> type[sqlite3.Connection]:
        """What a connection to that file is."""
        if not path or not isinstance(path, Path) or path.suffix != ".db" or not path.parent.name.endswith("index"):
            return sqlite3.Connection
        files, file = self, path

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
                step(sql)
                found = super().execute(sql, *arguments)
                if sql.startswith(_SYNC):
                    files.keep(file)
                step(sql)
                return found

        return Connection

    def keep(self, file: Path) -> None:
        """The file is synced now."""
        self._synced[file] = {
            end: path.read_bytes() for end in _ENDS if (path := file.with_name(file.name + end)).exists()
        }

    def moved(self, before: Path, after: Path) -> None:
        """The files are in another directory from now on."""
        self._synced = {
            after / file.relative_to(before) if file.is_relative_to(before) else file: kept
            for file, kept in self._synced.items()
        }

    def power_cut(self, directory: Path, chance: Random) -> None:
        """Takes from the files in it what was not synced, or leaves it."""
        for file in sorted(directory.glob("*index/*.db")):
            if chance.random() < 0.5:
                continue
            kept = self._synced.get(file, {"": b""})
            for end in _ENDS:
                path = file.with_name(file.name + end)
                if end in kept:
                    path.write_bytes(kept[end])
                elif path.exists():
                    os.truncate(path, 0)


def step(sql: str) -> None:
    """The running node carries out this statement, which may be its last one."""
    machine = running.get()
    if machine is None:
        return
    if machine.dead:
        raise Killed
    kind = _STEPS.get(sql)
    if kind is not None:
        machine.step(kind)
