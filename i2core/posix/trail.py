"""Keeps the directories open that lead to the one opened last, so that the next one is opened from there.

A path is resolved name by name, so opening each directory of a chain by its whole path costs the square of its depth:
48 s for 4,000 levels. Opened from the directory above, each costs one step.

A kept descriptor still refers to its directory after a rename above it, when the path already leads to another one. So
descriptors are kept only during one job (`Trails.job`). They are opened within the job, so they are not older
than the hints that the job processes. A later rename has a hint of its own, which a later job processes with new
descriptors. A directory that is open while its entries are read is in the same situation.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from i2core.posix.descriptors import may_keep
from i2core.posix.opening import DIRECTORY, READABLE
from i2core.posix.syscalls import open_beneath

LONG_BYTES = 256
"""Shorter paths are opened as a whole: that costs less than keeping descriptors."""
_MOST = 256
"""At most so many descriptors are kept by one trail; fewer if this process may have only few."""
_APART_BYTES = 512
"""Distance, in bytes of path, between the directories that are kept for the way back up."""


class _Step(NamedTuple):
    """A directory on the trail. `readable`: it was opened for reading, not only to pass through."""

    path: bytes
    fd: int
    readable: bool


class Trail:
    """The directories on the way to the one that was opened last, each beneath the one before."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._most = may_keep(_MOST)

    def open(self, top: int, path: bytes) -> int:
        """A descriptor of the directory at `path` beneath the open directory `top`; the caller closes it.

        Raises:
            OSError: as `open_beneath`.
        """
        steps = self._steps
        while steps and not _leads_to(steps[-1], path):
            os.close(steps.pop().fd)
        above, fd = (steps[-1].path, steps[-1].fd) if steps else (b"", top)
        if len(above) == len(path):
            return os.dup(fd)
        at = len(above) + 1 if above else 0
        # In pieces, so that on the way back up a directory above this one is opened from one that is still kept.
        while len(path) - at > _APART_BYTES and (cut := path.rfind(b"/", at, at + _APART_BYTES)) > at:
            fd = open_beneath(fd, path[at:cut], DIRECTORY)
            steps.append(_Step(path[:cut], fd, readable=False))
            at = cut + 1
        fd = open_beneath(fd, path[at:], READABLE)
        try:
            steps.append(_Step(path, os.dup(fd), readable=True))
        except BaseException:
            os.close(fd)
            raise
        if len(steps) > self._most:
            self._thin_out()
        return fd

    def _thin_out(self) -> None:
        """Closes some of the directories further up. The last ones stay, and of the others one every `_APART_BYTES` or
        more."""
        last = len(self._steps) - self._most // 4
        apart = _APART_BYTES
        while len(self._steps) > self._most * 3 // 4:
            kept: list[_Step] = []
            for index, step in enumerate(self._steps):
                if index >= last or not kept or len(step.path) - len(kept[-1].path) >= apart:
                    kept.append(step)
                else:
                    os.close(step.fd)
            last -= len(self._steps) - len(kept)
            self._steps = kept
            apart *= 2

    def close(self) -> None:
        """Closes all kept directories."""
        while self._steps:
            os.close(self._steps.pop().fd)


def _leads_to(step: _Step, path: bytes) -> bool:
    """True when `path` is beneath the directory of the step, or is that directory and it was opened for reading."""
    length = len(step.path)
    if len(path) > length:
        return path[length] == 0x2F and path.startswith(step.path)
    return step.readable and path == step.path


class Trails(threading.local):
    """The trail of each thread that reads a tree, during its job."""

    _in_job = False
    _trail: Trail | None = None

    @contextmanager
    def job(self) -> Iterator[None]:
        """During the body, this thread keeps the directories open that lead to the one it opened last."""
        assert not self._in_job, "a job within a job"
        self._in_job = True
        try:
            yield
        finally:
            self._in_job = False
            trail, self._trail = self._trail, None
            if trail is not None:
                trail.close()

    def current(self) -> Trail | None:
        """This thread's trail; None outside of a job."""
        if self._trail is None and self._in_job:
            self._trail = Trail()
        return self._trail
