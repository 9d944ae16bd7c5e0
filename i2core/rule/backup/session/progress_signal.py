"""The progress that a backup node reports in its PONGs, so that a slow disk is not mistaken for a stalled transfer.

A batch may take minutes on a disk that is slow or busy with a flush. No ack can report progress before the batch is
done. So, while the sink is working and a thread of this process waits in the kernel for a disk, the sectors that the
disk reads and writes count as progress too. This is limited in time: a sink that does not finish is stuck.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

SLOW_S = 300.0
"""Longest time that one piece of work may take on a working disk."""
_VALUE = struct.Struct("<Q")


class ProgressSignal:
    """A number that changes as long as there is progress. `paths`: where the sink works."""

    def __init__(self, paths: Sequence[bytes]) -> None:
        self._paths = paths
        self._done = 0
        self._done_at = trio.current_time()
        self._working = 0
        self._sectors = 0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Marks the body as a piece of work; its end counts as progress."""
        if not self._working:
            self._done_at = trio.current_time()
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1
            self._done += 1
            self._done_at = trio.current_time()

    def value(self) -> bytes:
        """The number now, as a PONG carries it."""
        if self._working and trio.current_time() - self._done_at < SLOW_S and waits_for_disk():
            self._sectors = sum(map(disk_sectors, {_device(path) for path in self._paths}))
        return _VALUE.pack((self._done + self._sectors) % (1 << 64))


def disk_sectors(device: int) -> int:
    """Sectors that the disk with this device number has read and written; of all disks if the file system has no device
    of its own (Btrfs, network file systems); 0 when unknown."""
    major, minor = os.major(device), os.minor(device)
    own = _read(f"/sys/dev/block/{major}:{minor}/stat").split()
    if len(own) > 6:
        return int(own[2]) + int(own[6])
    lines = [line.split() for line in _read("/proc/diskstats").splitlines()]
    return sum(int(line[5]) + int(line[9]) for line in lines if len(line) > 9)


def waits_for_disk() -> bool:
    """True when a thread of this process is in a wait that nothing interrupts: state D of proc_pid_stat(5)."""
    try:
        threads = os.listdir("/proc/self/task")
    except OSError:
        return False
    return any(_read(f"/proc/self/task/{thread}/stat").rpartition(b")")[2][1:2] == b"D" for thread in threads)


def _device(path: bytes) -> int:
    try:
        return os.stat(path).st_dev
    except OSError:
        return 0


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # all of it, of which one call of the kernel returns a page at most
            return file.read()
    except OSError:
        return b""
