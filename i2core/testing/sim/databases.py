"""Where the work node's SQLite files are: real ones, in a private directory in memory, known by simulated paths.

SQLite itself is the real one, so what a killed process leaves is what its files hold at that moment. A power cut may
leave an older state besides, as nothing is synced (a shorter write-ahead log), or damage.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from random import Random
from typing import Any

_MEMORY = Path("/dev/shm")


class Databases:
    """Stands where a module of the product has ``sqlite3``."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="i2-sim-", dir=_MEMORY if _MEMORY.is_dir() else None))
        self._numbers = itertools.count()
        self._files: dict[bytes, Path] = {}
        self._connections: list[sqlite3.Connection] = []

    def __getattr__(self, name: str) -> object:
        return getattr(sqlite3, name)

    def connect(self, path: str | Path, **options: Any) -> sqlite3.Connection:
        """As `sqlite3.connect`."""
        if not str(path):
            connection: sqlite3.Connection = sqlite3.connect("", **options)
        else:
            known = os.fsencode(path)
            if known not in self._files:
                self._files[known] = self._fresh()
            connection = sqlite3.connect(self._files[known], **options)
        self._connections.append(connection)
        return connection

    def _fresh(self) -> Path:
        return self._home / str(next(self._numbers))

    def killed(self, above: bytes) -> None:
        """A process died: what comes next finds the files beneath `above` as they are now, whatever the dead one's
        connections still do."""
        for known, file in self._files.items():
            if known.startswith(above):
                copy = self._files[known] = self._fresh()
                for tail in ("", "-wal"):
                    if Path(f"{file}{tail}").exists():
                        shutil.copyfile(f"{file}{tail}", f"{copy}{tail}")

    def power_cut(self, above: bytes, chance: Random) -> str:
        """As `killed`, and not all was written. Says what became of the files."""
        self.killed(above)
        fate = chance.choice(("kept", "older", "older", "lost", "damaged"))
        for known, file in list(self._files.items()):
            if not known.startswith(above):
                continue
            log = Path(f"{file}-wal")
            if fate == "older" and log.exists():
                os.truncate(log, chance.randint(0, log.stat().st_size))
            elif fate == "lost":
                del self._files[known]
            elif fate == "damaged" and file.exists():
                with file.open("r+b") as damaged:
                    damaged.seek(chance.randrange(max(1, file.stat().st_size)))
                    damaged.write(chance.randbytes(200))
        return fate

    def exists(self, path: str | Path) -> bool:
        """True when there is a database of that path."""
        return os.fsencode(path) in self._files

    def close(self) -> None:
        """Removes all."""
        for connection in self._connections:
            connection.close()
        shutil.rmtree(self._home)
