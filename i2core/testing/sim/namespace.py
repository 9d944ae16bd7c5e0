"""Mounted disks beneath one root, and how a path leads to an inode, as in path_resolution(7)."""

from __future__ import annotations

import errno
import stat

from i2core.testing.sim.disk import Disk
from i2core.testing.sim.inode import NAME_BYTES, Inode, fail

_LINKS = 40


class Namespace:
    """All mounted disks."""

    def __init__(self, root: Disk) -> None:
        self.root = root.root
        self._above: dict[Inode, Inode] = {}
        """The directory that each mounted root covers."""

    def mount(self, path: bytes, disk: Disk) -> None:
        """Mounts the disk at `path`, an existing directory."""
        at = self.walk(self.root, path, follow=False)[2]
        assert at is not None
        at.mounted = disk.root
        self._above[disk.root] = at

    def unmount(self, disk: Disk) -> None:
        """Unmounts the disk, so that the directory beneath is visible again. Open files of the disk stay usable."""
        at = self._above.pop(disk.root)
        at.mounted = None

    def walk(
        self, start: Inode, path: bytes, *, follow: bool, beneath: Inode | None = None, links: int = 0
    ) -> tuple[Inode, bytes, Inode | None]:
        """The directory, the name in it, and the inode with that name. With `beneath`, no symlink is followed, and no
        path leads out of that directory."""
        parts = [part for part in path.split(b"/") if part and part != b"."]
        parent, here, name = start, start, b"."
        if not parts and path and not here.is_dir:
            raise fail(errno.ENOTDIR, path)
        last = len(parts) - 1
        for index, part in enumerate(parts):
            if not here.is_dir:
                raise fail(errno.ENOTDIR, path)
            if len(part) > NAME_BYTES:
                raise fail(errno.ENAMETOOLONG, path)
            if part == b"..":
                if here is beneath:
                    raise fail(errno.EXDEV, path)
                above = self._above.get(here, here).parent
                parent, here, name = here, above or here, b".."
                continue
            child = here.entries.get(part)
            if child is None:
                if index == last:
                    return here, part, None
                raise fail(errno.ENOENT, path)
            if child.mounted is not None:
                child = child.mounted
            if stat.S_ISLNK(child.mode) and (index < last or follow):
                if beneath is not None or links >= _LINKS:
                    raise fail(errno.ELOOP, path)
                start = self.root if child.target.startswith(b"/") else here
                further = b"/".join([child.target, *parts[index + 1 :]])
                return self.walk(start, further, follow=follow, links=links + 1)
            parent, here, name = here, child, part
        return parent, name, here

    def path_of(self, inode: Inode) -> bytes:
        """A directory's absolute path."""
        parts: list[bytes] = []
        here: Inode | None = inode
        while here is not None and here is not self.root:
            at = self._above.get(here, here)
            above = at.parent
            if above is None:
                break
            parts += [name for name, child in above.entries.items() if child is at][:1]
            here = above
        return b"/" + b"/".join(reversed(parts))
