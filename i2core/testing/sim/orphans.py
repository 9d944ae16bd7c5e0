"""Files that somebody has put on the targets before the rule begins, under a name that no application uses. A rule that
keeps orphans must keep them, as long as the source keeps the directories in which they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from i2core.testing.sim.inode import Inode
from i2core.testing.sim.kernel import Kernel

_NAME = b"orphan"
_CONTENT = b"somebody's"

_Step = tuple[Inode, bytes]
"""A directory of the source, and a name in it."""


class _Planted(NamedTuple):
    root: int
    path: bytes
    """Of the directory, beneath the root."""
    way: tuple[_Step, ...]
    """The names on the source that lead to the directory."""

    def beneath(self, source: Inode) -> list[_Planted]:
        """The same for the directories in it."""
        inode = self.way[-1][0].entries[self.way[-1][1]] if self.way else source
        return [
            _Planted(self.root, self.path + b"/" + name if self.path else name, (*self.way, (inode, name)))
            for name, child in inode.entries.items()
            if child.is_dir
        ]


class PlantedOrphans:
    """Puts them there, and tells which are lost. It watches the kernel: a name that leads to something else for a
    moment may take an orphan away."""

    def __init__(self) -> None:
        self._planted: list[_Planted] = []
        self._touched: set[_Step] = set()

    def plant(self, kernel: Kernel, targets: Sequence[bytes], sources: Sequence[Inode]) -> None:
        """Puts one into each directory that the target has as well, or that can be made there."""
        kernel.watchers.append(self)
        for root, (target, source) in enumerate(zip(targets, sources, strict=True)):
            waiting = [_Planted(root, b"", ())]
            while waiting:
                here = waiting.pop()
                there = target + b"/" + here.path if here.path else target
                if not kernel.path.lexists(there):
                    kernel.mkdir(there)
                if not kernel.find(there, follow=False).is_dir:
                    continue  # somebody has put something else there
                fd = kernel.open(there + b"/" + _NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                kernel.pwrite(fd, _CONTENT, 0)
                kernel.close(fd)
                self._planted.append(here)
                waiting += here.beneath(source)

    def lost(self, sources: Sequence[Inode], replicas: Sequence[Inode]) -> list[str]:
        """What should be on the replicas and is not, one line for each. `sources`: those of the owner now."""
        lines = []
        for root, path, way in self._planted:
            is_kept = not way or (way[0][0] is sources[root] and self._touched.isdisjoint(way))
            if is_kept and not _holds(replicas[root], path):
                lines.append(f"root {root}: {path!r:.80}: its orphan is lost")
        return lines

    # ------------------------------------------------------------------------------------------ as a watcher

    def happened(self, what: str, parent: Inode, name: bytes, inode: Inode) -> None:
        """A name was created or removed, or something about its object has changed."""
        if what in ("create", "remove"):
            self._touched.add((parent, name))

    def renamed(self, old_parent: Inode, old: bytes, new_parent: Inode, new: bytes, inode: Inode) -> None:
        """A name became another one."""
        self._touched |= {(old_parent, old), (new_parent, new)}


def _holds(replica: Inode, path: bytes) -> bool:
    here: Inode | None = replica
    for name in [*path.split(b"/"), _NAME] if path else [_NAME]:
        here = here.entries.get(name) if here is not None else None
    return here is not None and bytes(here.data) == _CONTENT
