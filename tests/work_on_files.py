"""Somebody works on a directory, by a seed: all that applications do to files."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

MOST_BYTES = 300_000


class Worker:
    """Each call of `do` is one operation."""

    def __init__(self, rng: random.Random, top: Path) -> None:
        self._rng, self._top = rng, top
        self._deeds: dict[Callable[[], None], int] = {
            self._create: 8,
            self._overwrite: 8,
            self._append: 5,
            self._cut: 3,
            self._make: 4,
            self._rename: 8,
            self._remove: 5,
            self._link: 3,
            self._symlink: 2,
            self._mode: 3,
            self._save: 5,
            self._large: 1,
        }

    def do(self, times: int = 1) -> None:
        """Does something."""
        for _ in range(times):
            (deed,) = self._rng.choices(list(self._deeds), list(self._deeds.values()))
            try:
                deed()
            except (OSError, shutil.Error):
                continue

    def _directories(self) -> list[Path]:
        return [self._top, *(Path(at) / name for at, names, _ in os.walk(self._top) for name in names)]

    def _files(self) -> list[Path]:
        found = [Path(at) / name for at, _, files in os.walk(self._top) for name in files if name != "fence"]
        return [path for path in found if not path.is_symlink()]

    def _new(self) -> Path:
        return self._rng.choice(self._directories()) / self._rng.choice("abcdefg")

    def _file(self) -> Path:
        files = self._files()
        return self._rng.choice(files) if files else self._new()

    def _any(self) -> Path:
        found = [*self._files(), *self._directories()[1:]]
        return self._rng.choice(found) if found else self._new()

    def _bytes(self) -> bytes:
        return self._rng.randbytes(self._rng.choice((0, 10, 5000, 70_000, MOST_BYTES)))

    def _create(self) -> None:
        self._new().write_bytes(self._bytes())

    def _overwrite(self) -> None:
        with open(self._file(), "r+b") as file:
            file.seek(self._rng.randrange(MOST_BYTES))
            file.write(self._bytes())

    def _append(self) -> None:
        with open(self._file(), "ab") as file:
            file.write(self._bytes())

    def _cut(self) -> None:
        os.truncate(self._file(), self._rng.randrange(MOST_BYTES))

    def _make(self) -> None:
        self._new().mkdir()

    def _rename(self) -> None:
        self._any().rename(self._new())

    def _remove(self) -> None:
        path = self._any()
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _link(self) -> None:
        os.link(self._file(), self._new())

    def _symlink(self) -> None:
        self._new().symlink_to(self._rng.choice("xyz"))

    def _mode(self) -> None:
        path = self._any()
        # Not 0o644 for a directory: an ordinary user could not enter it any more.
        path.chmod(self._rng.choice((0o700, 0o755, 0o711 if path.is_dir() else 0o644)))

    def _save(self) -> None:
        """As an editor does."""
        path = self._file()
        fresh = path.with_name("saving")
        fresh.write_bytes(self._bytes())
        fresh.rename(path)

    def _large(self) -> None:
        """Is sent in slices, and staged when it is new."""
        self._new().write_bytes(self._rng.randbytes(6 << 20))
