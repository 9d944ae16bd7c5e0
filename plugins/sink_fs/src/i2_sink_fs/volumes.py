"""Knows which file systems hold changes that are not durable yet."""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet

from i2_sink_fs.directories import Directory
from i2_sink_fs.outcome import stop
from i2_sink_fs.paths import proc_path
from i2_sink_fs.system import sync_filesystem
from i2core.api import StopRule


class Volumes:
    """The file systems beneath the roots: usually one, more where something is mounted inside a replica.

    One fd is held on each from before its first change on: syncfs(2) reports only errors that are younger than the fd.
    `sync` may run in one thread while another applies a batch.
    """

    def __init__(self) -> None:
        self._fds: dict[int, tuple[int, str]] = {}
        self._changed: set[int] = set()
        self._broken: StopRule | None = None

    def watch(self, directory: Directory) -> None:
        """Holds the directory's file system, which is about to change."""
        self.hold(directory.fd, directory.device)

    def hold(self, path_fd: int, device: int) -> None:
        """As `watch`, for an open directory or regular file, and the number of its device."""
        if device not in self._fds:
            fd = os.open(proc_path(path_fd), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._fds[device] = (fd, os.fsdecode(os.readlink(proc_path(fd))))

    def changed(self, devices: AbstractSet[int]) -> None:
        """Notes the file systems that a call has changed. Called when it ends, not before: a sync that another thread
        began meanwhile covers only a part of it."""
        self._changed |= devices

    def changed_elsewhere(self, devices: AbstractSet[int]) -> None:
        """Notes what another sink of these roots has changed. A file system that this one does not hold is not beneath
        a root any more."""
        self._changed |= devices & self._fds.keys()

    def take(self) -> set[int]:
        """What has changed since it was last taken; it is to be synced now.

        Raises:
            StopRule: an earlier sync failed, and a later one does not write the lost data.
        """
        if self._broken is not None:
            raise self._broken
        taken, self._changed = self._changed, set()
        return taken

    def sync(self, devices: AbstractSet[int]) -> None:
        """Makes these file systems durable.

        Raises:
            StopRule: one could not write what it had promised.
        """
        for device in devices:
            fd, where = self._fds[device]
            try:
                sync_filesystem(fd)
            except OSError as error:
                self._broken = stop(error, where)
                raise self._broken from error

    def close(self) -> None:
        """Closes the fds; syncs nothing."""
        for fd, _ in self._fds.values():
            os.close(fd)
        self._fds.clear()
