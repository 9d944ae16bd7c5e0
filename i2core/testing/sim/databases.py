"""Where the work node's SQLite files are: real files in a private directory in memory, one directory for each life.

SQLite itself is the real one, so what a killed process leaves is what its files hold at that moment. A power cut may
leave an older state besides, as far as nothing was synced (a shorter write-ahead log), or damage.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from random import Random

_MEMORY = Path("/dev/shm")


class Databases:
    """The state directories of work nodes."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="i2-sim-", dir=_MEMORY if _MEMORY.is_dir() else None))
        """Nothing else on this host is touched."""
        self._lives = itertools.count()
        self._current: dict[str, Path] = {}

    def directory(self, node: str) -> Path:
        """The state directory of the node's life that runs, or comes next."""
        if node not in self._current:
            self._current[node] = self._fresh()
        return self._current[node]

    def _fresh(self) -> Path:
        path = self.home / str(next(self._lives))
        path.mkdir(0o700)
        return path

    def killed(self, node: str) -> None:
        """A process died: its next life finds the files as they are now, whatever the dead one's connections still
        do."""
        before, after = self.directory(node), self._fresh()
        self._current[node] = after
        for file in before.iterdir():
            if file.suffix != ".catalog-shm":  # memory that the processes share, gone with the last
                shutil.copyfile(file, after / file.name)

    def forget(self, node: str) -> None:
        """The node's next life finds nothing."""
        self._current[node] = self._fresh()

    def power_cut(self, node: str, chance: Random) -> str:
        """As `killed`, and not all was written. Says what became of the files."""
        self.killed(node)
        fate = chance.choice(("kept", "older", "older", "lost", "damaged"))
        for file in sorted(self.directory(node).iterdir()):
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

    def close(self) -> None:
        """Removes all."""
        shutil.rmtree(self.home)
