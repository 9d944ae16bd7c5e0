"""The log on disk: JSON lines in files of bounded size and age, found by their cursors.

New lines go to `node.jsonl`. When it is full, or is from an earlier day, it is renamed to ``node.CURSOR.jsonl`` after
the cursor of its first line, so that a reader finds a line without opening all files. Each line begins with its cursor,
and cursors only grow."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

FILE_BYTES = 10_000_000
TOTAL_BYTES = 50_000_000
"""About ten thousand lines for each file; never more than 50 MB in total, even if they are young."""
DAY_S = 86_400

_CURSOR = re.compile(rb'\{"cursor": ?([0-9]{1,18})[,}]')
_NAME = re.compile(r"node\.([0-9]{18})\.jsonl")
_STEP_BYTES = 65_536


class LogFiles:
    """Writes the files in `directory`, which is created if it is missing. Only one process may write them.

    `keep_days`: older files are removed. `clock` returns Unix time.
    """

    def __init__(self, directory: Path, keep_days: int, clock: Callable[[], float] = time.time) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._keep_s = keep_days * DAY_S
        self._clock = clock
        self._current = _paths(directory)[-1]
        self._file = self._open()
        self.last_cursor = self._last_cursor()
        """Cursor of the newest line on disk; 0 if there is none."""
        self.tidy()

    # ------------------------------------------------------------------------------------------ writing

    def append(self, line: bytes, *, sync: bool = False) -> bool:
        """Writes one line, which ends with a newline; with `sync` it survives a power cut. False: it could not be
        written, not even in part."""
        try:
            if not self._is_there():
                # The file was removed: later lines would go into a file without a name.
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                taken, self._file = self._file, self._open()
                os.close(taken)
            if self._is_due(len(line)):
                self._rotate()
            if os.write(self._file, line) != len(line):
                os.ftruncate(self._file, self._size)
                return False
            if not self._size:
                self._day = self._today()
            self._size += len(line)
            if sync:
                os.fsync(self._file)
        except OSError:
            return False
        return True

    def tidy(self) -> None:
        """Removes files that are too old or exceed the total size."""
        with contextlib.suppress(OSError):
            if self._is_due(0):
                self._rotate()
            self._remove()

    def close(self) -> None:
        """Closes the file; nothing can be written after that."""
        os.close(self._file)

    def _open(self) -> int:
        descriptor = os.open(self._current, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        found = os.fstat(descriptor)
        self._size = found.st_size
        self._day = int(found.st_mtime // DAY_S)
        return descriptor

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._current), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _today(self) -> int:
        return int(self._clock() // DAY_S)

    def _is_due(self, more: int) -> bool:
        return self._size > 0 and (self._size + more > FILE_BYTES or self._day != self._today())

    def _rotate(self) -> None:
        with open(self._current, "rb") as file:
            first = next(_cursors(file), None)
        if first is None:
            os.ftruncate(self._file, 0)  # it has no line with a cursor
            self._size = 0
            return
        os.rename(self._current, self._directory / f"node.{first:018d}.jsonl")
        os.close(self._file)
        self._file = self._open()
        self._remove()

    def _remove(self) -> None:
        total = FILE_BYTES  # `node.jsonl` may grow to that size
        for path in reversed(self._older()):
            found = path.stat()
            total += found.st_size
            if total > TOTAL_BYTES or found.st_mtime < self._clock() - self._keep_s:
                path.unlink()

    def _last_cursor(self) -> int:
        """Also truncates a line that a crash left incomplete."""
        with open(self._current, "rb") as file:
            whole, cursor = _last_line(file, self._size)
        if whole != self._size:
            os.ftruncate(self._file, whole)
            self._size = whole
        for path in reversed(self._older() if not cursor else []):
            with open(path, "rb") as file:
                return _last_line(file, path.stat().st_size)[1] or _first(path)
        return cursor

    def _older(self) -> list[Path]:
        return _paths(self._directory)[:-1]


# ---------------------------------------------------------------------------------------------- reading


def oldest_cursor(directory: Path) -> int:
    """The first cursor in the files; 0 if there is none."""
    for path in _paths(directory):
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            for cursor in _cursors(file):
                return cursor
    return 0


def read_entries(directory: Path, after: int, limit: int) -> list[dict[str, Any]]:
    """Up to `limit` entries after the cursor `after`, oldest first. Works while another process writes them.

    Raises:
        OSError: the disk fails, or there are no such files.
    """
    while True:
        paths = _paths(directory)
        try:
            found = _read(paths, after, limit)
        except FileNotFoundError:
            if _paths(directory) == paths:
                raise
            continue
        # A file that was rotated or removed in between may have contained lines of the answer: read again.
        if _paths(directory) == paths:
            return found


def _paths(directory: Path) -> list[Path]:
    """All files, oldest first; the last one is the one that is written to."""
    try:
        older = sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))
    except FileNotFoundError:
        older = []
    return [*older, directory / "node.jsonl"]


def _cursor(line: bytes) -> int | None:
    found = _CURSOR.match(line)
    return int(found[1]) if found else None


def _cursors(file: BinaryIO) -> Iterator[int]:
    return (cursor for cursor in map(_cursor, file) if cursor is not None)


def _last_line(file: BinaryIO, size: int) -> tuple[int, int]:
    """The end of the last complete line, and the last cursor (0 if there is none)."""
    whole, begin = -1, size
    while begin:
        begin = max(0, begin - _STEP_BYTES)
        file.seek(begin)
        tail = file.read(size - begin)
        if whole < 0 and b"\n" in tail:
            whole = begin + tail.rindex(b"\n") + 1
        if whole >= 0:
            for line in reversed(tail[: whole - begin].splitlines()):
                cursor = _cursor(line)
                if cursor is not None:
                    return whole, cursor
    return max(whole, 0), 0


def _read(paths: list[Path], after: int, limit: int) -> list[dict[str, Any]]:
    begin = max((i for i, path in enumerate(paths[:-1]) if _first(path) <= after), default=0)
    found: list[dict[str, Any]] = []
    for path in paths[begin:]:
        with open(path, "rb") as file:
            _seek(file, after)
            for line in file:
                cursor = _cursor(line)
                if cursor is not None and cursor > after and line.endswith(b"\n"):
                    with contextlib.suppress(ValueError):
                        found.append(json.loads(line))
                if len(found) == limit:
                    return found
    return found


def _first(path: Path) -> int:
    """The cursor in the name of a rotated file."""
    return int(path.name.split(".")[1])


def _seek(file: BinaryIO, after: int) -> None:
    """Seeks to the beginning of a line at or a little before the first one whose cursor is above `after`."""
    low, high = 0, os.fstat(file.fileno()).st_size
    while high - low > _STEP_BYTES:
        middle = (low + high) // 2
        file.seek(middle)
        file.readline()
        begin = file.tell()
        cursor = _cursor(file.readline())
        if cursor is None or cursor > after:
            high = middle
        else:
            low = begin
    file.seek(low)
