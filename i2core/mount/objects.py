"""Opens what nodes lead to, and finds out when a node's name leads to something else by now.

An object that is open is used by one thread at a time, as a tree demands.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from i2core.api.records import Entry
from i2core.api.tree import OpenDirectory, OpenFile
from i2core.mount.idle import Idle
from i2core.mount.nodes import Node, Nodes, Several

_IDLE = 64
"""Directories, and files, that are open while nobody asks."""


class Objects:
    """Open directories and files of nodes."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._directories = Idle[OpenDirectory](_IDLE)
        self._files = Idle[OpenFile](_IDLE)

    def close(self) -> None:
        """Closes all that wait for the next question."""
        self._directories.close()
        self._files.close()

    # ------------------------------------------------------------------------------------------ directories

    @contextmanager
    def directory(self, node: Node) -> Iterator[OpenDirectory]:
        """The directory of a node, during the body."""
        directory = self._directories.take(node.id) or self.open_directory(node)
        try:
            yield directory
        finally:
            self._directories.give(node.id, directory)

    @contextmanager
    def above(self, node: Node) -> Iterator[tuple[OpenDirectory, bytes]]:
        """The directory that has the node's name, and the name; the top of a tree has it itself, as an empty name."""
        if node.is_top:
            with self.directory(node) as directory:
                yield directory, b""
        else:
            assert node.parent is not None
            with self.directory(node.parent) as directory:
                yield directory, node.name

    def open_directory(self, node: Node) -> OpenDirectory:
        """The directory of a node, for the caller alone, who closes it.

        Raises:
            OSError: ESTALE when its path leads to another directory by now, or to none.
        """
        if node.root is None:
            return Several(self._nodes.roots)
        try:
            directory = node.tree.directory(node.path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise stale() from error
        try:
            is_it = node.is_top or node.is_fixed or node.is_it(directory.here())
        except BaseException:
            directory.close()
            raise
        if not is_it:
            directory.close()
            raise stale()
        return directory

    def entry(self, node: Node) -> Entry:
        """The present entry of a node.

        Raises:
            OSError: ESTALE when its name leads to another object by now, or to none: the kernel looks it up again.
        """
        with self.above(node) as (directory, name):
            entry = directory.entry(name) if name else directory.here()
        if entry is None or (name and not node.is_it(entry)):
            raise stale()
        return entry

    # ------------------------------------------------------------------------------------------ files

    @contextmanager
    def file(self, node: Node) -> Iterator[OpenFile]:
        """A file that never changes, during the body: it needs no opening by the kernel."""
        file = self._files.take(node.id) or self.open_file(node)
        try:
            yield file
        finally:
            self._files.give(node.id, file)

    def open_file(self, node: Node) -> OpenFile:
        """The file of a node, for the caller alone, who closes it.

        Raises:
            OSError: ESTALE when its name leads to another object by now.
        """
        with self.above(node) as (directory, name):
            file = directory.open(name)
        if not node.is_it(file.as_opened()):
            file.close()
            raise stale()
        return file


def stale() -> OSError:
    """The kernel's node is not what it was."""
    return OSError(errno.ESTALE, os.strerror(errno.ESTALE))
