"""A copy of watched trees that is updated from a capture's reports alone: the oracle of capture tests.

It does what the work side does: at each report it reads the reported place again, and nothing else. If the capture
keeps its contract, the copy equals the trees when all reports have arrived, whatever happened in between.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress

from i2core.api import Change, Lost, Op, Place

_NO_NAME = re.compile(rb"#([0-9]+)")
"""The name in events of a file that was opened without a name: its inode number."""

Object = tuple[int, int, bytes, int, tuple[tuple[bytes, bytes], ...]]
"""The known state of an object: st_mode, size (0 for a directory), content or link text, st_rdev, xattrs."""


def is_at_or_beneath(path: bytes, top: bytes) -> bool:
    """True when `path` is `top` or beneath it; everything is beneath ``b""``."""
    return not top or path == top or path.startswith(top + b"/")


class HintedTree:
    """Names and their objects beneath some roots. Hard links share one object, as on disk."""

    def __init__(self, roots: Sequence[bytes], wants_dir: Callable[[int, bytes], bool] = lambda root, path: True):
        self._roots = tuple(roots)
        self._wants_dir = wants_dir
        self.names: dict[Place, tuple[int, int]] = {}
        self.objects: dict[tuple[int, int], Object] = {}
        self._former: dict[Place, set[tuple[int, int]]] = {}
        """Objects that a name belonged to before and that have other names: events of a writer that opened the object
        then have this name."""
        for root in range(len(self._roots)):
            self._look(Place(root, b""), deep=True)

    def apply(self, item: Change | Lost) -> None:
        """Reads the reported places again."""
        if isinstance(item, Lost):
            self._look(item.place, deep=True)
        elif item.op is Op.RENAME:
            assert item.to is not None, f"a RENAME without its new name: {item}"
            self._look(item.place, deep=False)
            self._look(item.to, deep=True)
        else:
            if item.place.path or item.is_dir or not item.inode:
                self._look(item.place, deep=item.op is Op.CREATE and item.is_dir)
            nameless = _NO_NAME.fullmatch(item.place.path.rpartition(b"/")[2])
            if inode := item.inode or (int(nameless[1]) if nameless else 0):
                for name in [n for n, identity in self.names.items() if identity[1] == inode and n != item.place]:
                    self._look(name, deep=False)
            for former in self._former.get(item.place, ()):
                for name in [n for n, identity in self.names.items() if identity == former and n != item.place]:
                    self._look(name, deep=False)

    def differences(self) -> list[str]:
        """The differences of this copy from the disk now, one line for each place."""
        now = HintedTree(self._roots, self._wants_dir)
        lines = []
        for place in sorted(self.names.keys() | now.names.keys()):
            mine, real = self.names.get(place), now.names.get(place)
            if mine is None:
                lines.append(f"{place}: exists, but was not reported")
            elif real is None:
                lines.append(f"{place}: is gone, but this was not reported")
            elif mine != real:
                lines.append(f"{place}: is another object now, but this was not reported")
            elif self.objects[mine] != now.objects[real]:
                lines.append(f"{place}: content or attributes changed, but this was not reported")
        return lines

    def _look(self, place: Place, *, deep: bool) -> None:
        if not self._protected(place):
            return
        absolute = os.path.join(self._roots[place.root], place.path)
        try:
            self._refuse_symlinks_above(place)
            entry = os.lstat(absolute)
            picture = _object(absolute, entry)
        except OSError:
            self._look_at_other_links(place, None)
            self._forget(place, beneath_only=False)
            return
        is_dir = stat.S_ISDIR(entry.st_mode)
        self._look_at_other_links(place, (entry.st_dev, entry.st_ino))
        if deep or not is_dir:
            self._forget(place, beneath_only=True)
        self.names[place] = (entry.st_dev, entry.st_ino)
        self.objects[self.names[place]] = picture
        if deep and is_dir:
            try:
                names = os.listdir(absolute)
            except OSError:
                return
            for name in names:
                self._look(Place(place.root, place.path + b"/" + name if place.path else name), deep=True)

    def _look_at_other_links(self, place: Place, identity: tuple[int, int] | None) -> None:
        """A file may have been written through a name that belongs to another object now."""
        before = self.names.get(place)
        if before is None or before == identity:
            return
        del self.names[place]
        for link in [n for n, i in self.names.items() if i == before]:
            self._former.setdefault(place, set()).add(before)
            self._look(link, deep=False)

    def _refuse_symlinks_above(self, place: Place) -> None:
        above = self._roots[place.root]
        for part in place.path.split(b"/")[:-1]:
            above = os.path.join(above, part)
            if os.path.islink(above):
                raise NotADirectoryError(above)

    def _protected(self, place: Place) -> bool:
        parts = place.path.split(b"/")
        above = (b"/".join(parts[:end]) for end in range(1, len(parts) + 1))
        return not place.path or all(self._wants_dir(place.root, path) for path in above)

    def _forget(self, place: Place, *, beneath_only: bool) -> None:
        for name in [n for n in self.names if n.root == place.root and is_at_or_beneath(n.path, place.path)]:
            if not (beneath_only and name == place):
                del self.names[name]


def _object(absolute: bytes, entry: os.stat_result) -> Object:
    mode = entry.st_mode
    content, size = b"", 0
    if stat.S_ISREG(mode):
        # Non-blocking: the name may belong to a FIFO by now.
        fd = os.open(absolute, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            content = file.read()
        size = len(content)
    elif stat.S_ISLNK(mode):
        content = os.readlink(absolute)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    with suppress(OSError):  # not every file system, and not every type of object, has them
        names = sorted(os.listxattr(absolute, follow_symlinks=False))
        xattrs = tuple((os.fsencode(n), os.getxattr(absolute, n, follow_symlinks=False)) for n in names)
    return (mode, size, content, entry.st_rdev, xattrs)
