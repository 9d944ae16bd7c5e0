"""Accidents of roots: a source becomes another directory, a replica is moved away, its disk is not mounted."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Sequence
from random import Random

from i2core.testing.sim.disk import Disk
from i2core.testing.sim.inode import Inode
from i2core.testing.sim.kernel import Kernel
from i2core.testing.sim.nodes import WorkNode


class Replicas:
    """The targets, each on its own disk."""

    def __init__(self, kernel: Kernel, targets: Sequence[bytes], disks: Sequence[Disk]) -> None:
        self._kernel = kernel
        self._targets = targets
        self._disks = disks
        self._numbers = itertools.count()
        self._last = [kernel.find(target) for target in targets]
        """The directory of each target at the last check."""
        self._away: set[int] = set()
        self.known = False
        """The backup node has written there. Before that, it cannot recognize an empty mount point."""
        self.troubled = False
        """A target was moved away, or its disk unmounted, at some time."""

    def realms(self) -> list[Inode]:
        """Where a backup node may write: in the targets, and beside a missing one, to create it again."""
        missing = [self._disks[root].root for root in range(len(self._targets)) if not self._is_there(root)]
        for root in range(len(self._targets)):
            self._see(root)
        return [*self._last, *missing]

    def _see(self, root: int) -> None:
        if self._is_there(root) and root not in self._away:
            self._last[root] = self._kernel.find(self._targets[root])

    def _is_there(self, root: int) -> bool:
        return os.path.basename(self._targets[root]) in self._disks[root].root.entries

    def now(self, target: bytes) -> Inode | None:
        """The object to which a target's path leads; None: there is none."""
        try:
            return self._kernel.find(target)
        except FileNotFoundError:
            return None

    def roots(self) -> list[Inode] | None:
        """The directories that a backup node has opened; None: the path of one leads elsewhere now, or to nothing."""
        return None if self.lacks_a_root() else list(self._last)

    def lacks_a_root(self) -> bool:
        """True when a target's path leads to nothing, or to a directory that no backup node has opened."""
        return any(self.is_unopened(root) for root in range(len(self._targets)))

    def is_unopened(self, root: int) -> bool:
        """True when the target's path leads to nothing, or to a directory that no backup node has opened."""
        return self.now(self._targets[root]) is not self._last[root]

    def opened(self) -> None:
        """A backup node has opened the present targets."""
        for root, target in enumerate(self._targets):
            with contextlib.suppress(FileNotFoundError):  # moved away a moment ago
                self._last[root] = self._kernel.find(target)

    def move_away(self, root: int) -> Inode:
        """Moves a target to another directory. Returns the directory that it was in."""
        self.troubled = True
        if self._is_there(root) and root not in self._away:
            base = self._disks[root].root
            gone = b"/sim/replica%d/gone%d" % (root, next(self._numbers))
            self._kernel.rename(self._targets[root], gone)
            base.disk.sync()
        return self._disks[root].root

    def unmount(self, root: int) -> None:
        """Unmounts the disk of a target. Open files of it stay usable."""
        if root not in self._away and self.known:
            self.troubled = True
            # A backup node may have created it again and ended before it was open. Then this is the target from now on.
            self._see(root)
            self._away.add(root)
            self._kernel.unmount(self._disks[root])

    def mount(self) -> None:
        """Mounts all disks."""
        for root in self._away:
            self._kernel.mount(b"/sim/replica%d" % root, self._disks[root])
        self._away.clear()

    def heal(self) -> None:
        """Mounts all disks, and creates missing allowed directories, which only an administrator may do."""
        self.mount()
        for root, target in enumerate(self._targets):
            if not self._is_there(root):
                self._kernel.mkdir(target)
                self._disks[root].sync()


def exchange_source(kernel: Kernel, node: WorkNode, chance: Random, say: Callable[[str], None]) -> None:
    """Replaces a source by another directory: a new one into which the old one is moved, a new one alone, or one that
    was beneath it."""
    assert node.rule is not None
    source = chance.choice(node.rule.pairs).source
    was = b"/sim/%s/outside/was%d" % (node.name.encode(), chance.randrange(1 << 30))
    children = [name for name, child in kernel.find(source).entries.items() if child.is_dir]
    how = chance.choice(("into", "into", "alone", "child"))
    kernel.rename(source, was)
    if how == "child" and children:
        kernel.rename(was + b"/" + chance.choice(children), source)
    else:
        kernel.mkdir(source)
        if how == "into":
            kernel.rename(was, source + b"/old")
    node.roots = [kernel.find(pair.source) for pair in node.rule.pairs]
    node.disks[0].sync()
    say(f"{node.name}: {source.decode()} is another directory ({how})")
