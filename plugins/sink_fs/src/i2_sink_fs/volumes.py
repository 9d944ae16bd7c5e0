"""Knows which file systems hold changes that are not durable yet."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

import attrs

from i2_sink_fs.open_directories import Directory
from i2_sink_fs.outcome import stop
from i2_sink_fs.paths import proc_path
from i2core.api import StopRule
from i2core.posix.syscalls import sync_filesystem


@attrs.define
class _Held:
    """A file system that is held. `where`: a path in it, for people."""

    fd: int
    where: str
    stays: bool = False
    """Until the sink is closed."""
    changing: int = 0
    """Calls that are changing it now."""


class Volumes:
    """The file systems beneath the roots: usually one, more where something is mounted inside a replica.

    One fd is held on each from before its first change on, until what was changed is synced. syncfs(2) compares the
    file system's last error of write-back with the one that the fd had seen when it was opened, so each error since
    then is reported. An earlier one is not, if somebody else has seen it by then, but it cannot have hit what an
    earlier sync had covered. An open fd keeps the file system busy. So one that is mounted inside a replica is held
    no longer than that: an administrator can unmount it whenever nothing of it waits for a flush. Those of the roots
    are busy anyway, by the locks, and are held all the time.

    `sync` may run in one thread while another applies a batch.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        """Held while it is decided whether an fd is opened or closed."""
        self._held: dict[int, _Held] = {}
        self._changed: set[int] = set()
        self._broken: StopRule | None = None

    def hold(self, path_fd: int, device: int) -> None:
        """Holds a file system until the end: that of an open directory or regular file, with its device's number."""
        with self._guard:
            self._open(path_fd, device).stays = True

    def watch(self, directory: Directory) -> None:
        """Holds the directory's file system, which is about to change. `changed` is called after that."""
        with self._guard:
            self._open(directory.fd, directory.device).changing += 1

    @contextmanager
    def changing(self, directory: Directory) -> Iterator[None]:
        """The body changes the directory's file system."""
        self.watch(directory)
        try:
            yield
        finally:
            self.changed({directory.device})

    def _open(self, path_fd: int, device: int) -> _Held:
        held = self._held.get(device)
        if held is None:
            fd = os.open(proc_path(path_fd), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            held = self._held[device] = _Held(fd, os.fsdecode(os.readlink(proc_path(fd))))
        return held

    def changed(self, devices: AbstractSet[int]) -> None:
        """Notes the file systems that a call has changed. Called when it ends, not before: a sync that another thread
        began meanwhile covers only a part of it."""
        with self._guard:
            self._changed |= devices
            for held in (self._held[device] for device in devices & self._held.keys()):
                held.changing = max(0, held.changing - 1)

    def changed_elsewhere(self, devices: AbstractSet[int]) -> None:
        """Notes what another sink of these roots has changed. A file system that this one does not hold is not beneath
        a root any more."""
        with self._guard:
            self._changed |= devices & self._held.keys()

    def take(self) -> set[int]:
        """What has changed since it was last taken; it is to be synced now.

        Raises:
            StopRule: an earlier sync failed, and a later one does not write the lost data.
        """
        if self._broken is not None:
            raise self._broken
        with self._guard:
            taken, self._changed = self._changed, set()
        return taken

    def sync(self, devices: AbstractSet[int]) -> None:
        """Makes these file systems durable.

        Raises:
            StopRule: one could not write what it had promised.
        """
        for device in devices:
            held = self._held[device]
            try:
                sync_filesystem(held.fd)
            except OSError as error:
                self._broken = stop(error, held.where)
                raise self._broken from error
            self._release(device, held)

    def _release(self, device: int, held: _Held) -> None:
        """Closes the fd of a file system that was synced, unless it is in use again."""
        with self._guard:
            if not held.stays and not held.changing and device not in self._changed:
                os.close(self._held.pop(device).fd)

    def close(self) -> None:
        """Closes the fds; syncs nothing."""
        for held in self._held.values():
            os.close(held.fd)
        self._held.clear()
