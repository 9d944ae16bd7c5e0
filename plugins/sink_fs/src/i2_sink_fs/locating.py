"""Finds the directories that a batch changes, and notes which file systems they are on."""

from __future__ import annotations

import os

from i2_sink_fs.directories import Directories
from i2_sink_fs.open_directories import Directory
from i2_sink_fs.volumes import Volumes


class Locator:
    """For one batch. Each file system is held from before its first change on, until it is synced (`Volumes`)."""

    def __init__(self, directories: Directories, volumes: Volumes) -> None:
        self._directories = directories
        self._volumes = volumes
        self._devices: set[int] = set()

    def locate(self, root: int, path: bytes) -> tuple[Directory, bytes]:
        """The open directory that holds `path`, and the name in it.

        Raises:
            IllegalPath: no record may use this path.
            OSError: one of `GONE` where no directory is.
        """
        directory, name = self._directories.locate(root, path)
        self.touch(directory)
        return directory, name

    def top(self, root: int) -> Directory:
        """The root's own directory, which is about to change."""
        directory = self._directories.find(root, b"")
        self.touch(directory)
        return directory

    def at(self, root: int, path: bytes) -> tuple[Directory, bytes]:
        """As `locate`, also of the root itself, whose name is ``.`` then."""
        return self.locate(root, path) if path else (self.top(root), b".")

    def touch(self, directory: Directory) -> None:
        """The open directory is about to change."""
        if directory.device not in self._devices:
            self._volumes.watch(directory)
            self._devices.add(directory.device)

    def note_changes(self) -> None:
        """Notes the file systems that the batch has changed, for the next flush. Called at its end: a flush that began
        meanwhile covers only a part of it."""
        self._volumes.changed(self._devices)


def find(directory: Directory, name: bytes) -> os.stat_result | None:
    """What the name in an open directory is; None for nothing."""
    try:
        return os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
