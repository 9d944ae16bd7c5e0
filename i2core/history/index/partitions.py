"""The partitions of an index: which files there are, and which of them takes rows."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3

from i2core.history.index.now import Now, PartFile
from i2core.history.index.partition import Partition
from i2core.posix.durable import sync_path


class Partitions:
    """The partitions in one directory, as `Now` lists them."""

    def __init__(self, directory: str, now: Now, *, part_rows: int) -> None:
        """Opens all that are listed, and removes all others. `part_rows`: as in `Index`.

        Raises:
            FileNotFoundError: somebody has removed one.
            sqlite3.DatabaseError: one is damaged, or cannot be read.
        """
        self._directory, self._now = directory, now
        self.part_rows = part_rows
        self.all: list[Partition] = []
        """The oldest first."""
        self.growing: Partition | None = None
        """The one that rows are added to; None: it is not begun."""
        self._check_files()
        self.reload()
        self._remove_strays()
        last = self.all[-1] if self.all else None
        self.growing = last if last is not None and last.count < part_rows else None

    def _check_files(self) -> None:
        """SQLite would make an empty one of a file that is missing."""
        for part in self._now.parts():
            if not os.path.exists(self._path(part.file)):
                self._now.abandon()
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._path(part.file))

    def _path(self, file: str) -> str:
        return os.path.join(self._directory, file)

    def _remove_strays(self) -> None:
        """Removes partitions that a merge was making, or had replaced, when it was cut off."""
        known = {os.path.basename(part.path) for part in self.all}
        if (pending := self._now.pending) is not None:
            known |= {part.file for part in pending.new}
        for file in os.listdir(self._directory):
            if file.startswith("rows-") and file.partition(".db")[0] + ".db" not in known:
                os.unlink(self._path(file))

    def to_grow(self, first: int) -> Partition:
        """The one to which rows are to be added now. `first`: the first record that ends one of them."""
        part = self.growing
        if part is None or part.count >= self.part_rows:
            part = self.growing = self.new(first)
            self.all.append(part)
        return part

    def new(self, first: int) -> Partition:
        """An empty one, which is none of the index before `note`."""
        number = int(self._now.state("parts", 0)) + 1
        self._now.set_state("parts", number)
        part = Partition(self._path(f"rows-{number:08d}.db"), first, first - 1)
        try:
            sync_path(self._directory)  # one that is listed and missing was removed, whatever the power did
        except OSError as error:
            raise sqlite3.OperationalError(error.strerror) from error
        return part

    def note(self, part: Partition) -> None:
        """The list has this one, as it is now."""
        self._now.set_part(PartFile(os.path.basename(part.path), part.first, part.last, part.count))

    def reload(self) -> None:
        """Opens those that the list has by now, and removes the files of those that it has no more."""
        there, known = {os.path.basename(part.path): part for part in self.all}, self._now.parts()
        self.all = [
            there[part.file]
            if part.file in there
            else Partition(self._path(part.file), part.first, part.last, part.rows)
            for part in known
        ]
        for file in there.keys() - {part.file for part in known}:
            self.discard(there[file])
        if self.growing not in self.all:
            self.growing = None

    def discard(self, part: Partition) -> None:
        """Closes one that is none of the index, and removes its file."""
        part.close()
        self.remove_file(os.path.basename(part.path))

    def remove_file(self, file: str) -> None:
        """Removes the file of one that is none of the index; a missing one is no error."""
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(file + end))
