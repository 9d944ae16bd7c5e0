"""Finds a directory's places beneath the rules' roots by its key: `Directories`, a cache.

The cache does not hold the path of a directory but its *link*: the parent's key and the name there. So the rename of a
directory changes one link, independently of the number of directories beneath it, and all other links stay valid.

How current is a link? It was read from the file system at some moment, or comes from the event that created the
directory. Every rename after that moment is still in the queue, and will drop the link. So a place is never older than
the queue: it is the place at the current position of the queue, or a newer one if later renames are still to be read.
Both are right for hints: the reader of a hint looks at the present state, and the renames follow.

The names in a rename event are not used as the new link, because identical renames are merged in the queue: of "a to b,
b to a, a to b" only the first two are reported, and the last name would be wrong. So the link is dropped and read
again."""

from __future__ import annotations

from collections.abc import Mapping

from i2_capture_fanotify.event import FSID_BYTES
from i2_capture_fanotify.filesystem import TOP, FileSystem, Unsettled
from i2_capture_fanotify.listener import Slot

Prefixes = tuple[tuple[Slot, bytes], ...]
"""The places of a directory: root, and path beneath it to which a name can be appended (``b""`` or ``b"a/b/"``). More
than one if roots or mounts show it more than once; empty outside the roots and in excluded directories."""

_TRIES = 16


class _Directory:
    __slots__ = ("above", "checked", "name", "parent", "prefixes")

    def __init__(self, parent: bytes | None, name: bytes) -> None:
        self.parent = parent
        self.name = name
        self.checked = -1
        """The number of renames when `prefixes` was last validated."""
        self.above: Prefixes = ()
        """The parent's prefixes from which `prefixes` were made."""
        self.prefixes: Prefixes = ()


class Directories:
    """Places of directories; bounded, the least recently used are dropped."""

    def __init__(self, limit: int) -> None:
        self._half = max(1, limit // 2)
        # Two halves make a cheap least-recently-used order: a used entry moves to the young half. When that is
        # full, it becomes the old half, and the entries left in the previous old half are dropped.
        self._young: dict[bytes, _Directory] = {}
        self._old: dict[bytes, _Directory] = {}
        self._renames = 0
        self.outside: set[bytes] = set()
        """The requested directories that are outside the roots, since the last rename: always the same set object."""
        self._anchors: Mapping[bytes, Prefixes] = {}
        self._filesystems: Mapping[bytes, FileSystem] = {}

    def anchor(self, anchors: Mapping[bytes, Prefixes], filesystems: Mapping[bytes, FileSystem]) -> None:
        """Sets the directories with known places (roots, mounts beneath them), and the file systems by fsid."""
        self.close()
        self._anchors = anchors
        self._filesystems = filesystems
        self.clear()

    def allow(self, limit: int) -> None:
        """Keeps up to `limit` directories, or more where that was allowed already."""
        self._half = max(self._half, limit // 2)

    def close(self) -> None:
        """Closes the descriptors of all mounts until the next request."""
        for filesystem in self._filesystems.values():
            filesystem.close()

    def clear(self) -> None:
        """Drops all links: renames may have been missed."""
        self._young.clear()
        self._old.clear()
        self.outside.clear()

    def forget(self, key: bytes) -> None:
        """Drops the link of a removed directory."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def moved(self, key: bytes | None) -> None:
        """Drops the link of a renamed directory; None: it is not known which one."""
        self._renames += 1
        self.outside.clear()
        if key is None:
            self.clear()
        else:
            self.forget(key)

    def made(self, key: bytes, parent: bytes, name: bytes) -> None:
        """Stores the link of a new directory, so that it need not be read."""
        if self._find(key) is None:
            self._young[key] = _Directory(parent, name)

    def prefixes(self, key: bytes) -> Prefixes:
        """The places of the directory with this key; none when it is outside, excluded or gone. A removed
        directory needs no report: its removal was an event of its parent, or of a directory above.

        Raises:
            Unsettled: the place cannot be determined now.
            StopRule: CAP_DAC_READ_SEARCH is missing.
        """
        directory = self._young.get(key)
        if directory is not None and directory.checked == self._renames:
            prefixes = directory.prefixes
        else:
            prefixes = self._find_out(key)
        if not prefixes:
            if len(self.outside) >= self._half:
                self.outside.clear()
            self.outside.add(key)
        return prefixes

    def _find_out(self, key: bytes) -> Prefixes:
        for _ in range(_TRIES):
            chain = self._climb(key)
            if chain is not None:
                return self._descend(chain)
        raise Unsettled

    def links(self, key: bytes) -> int:
        """How many names the file with this key has; 0 when it is gone.

        Raises:
            Unsettled: it cannot be determined now.
        """
        filesystem = self._filesystems.get(key[:FSID_BYTES])
        return 0 if filesystem is None else filesystem.links(key[FSID_BYTES:])

    def leads(self, key: bytes, name: bytes, target: bytes) -> bool:
        """True if the name in the directory with this key leads to the object with the key `target`.

        Raises:
            Unsettled: it cannot be determined now.
        """
        filesystem = self._filesystems.get(key[:FSID_BYTES])
        return filesystem is not None and filesystem.leads(key[FSID_BYTES:], name, target[FSID_BYTES:])

    def _find(self, key: bytes) -> _Directory | None:
        directory = self._young.get(key)
        if directory is None:
            directory = self._old.get(key)
            if len(self._young) >= self._half:
                self._old, self._young = self._young, {}
            if directory is not None:
                self._young[key] = directory
        return directory

    def _load(self, key: bytes) -> _Directory:
        """A removed directory is kept as one without parent: a generation of an inode is never reused."""
        filesystem = self._filesystems.get(key[:FSID_BYTES])
        parent, name = TOP if filesystem is None else filesystem.link(key[FSID_BYTES:]) or TOP
        directory = _Directory(None if parent is None else key[:FSID_BYTES] + parent, name)
        self._young[key] = directory
        return directory

    def _climb(self, key: bytes) -> dict[bytes, _Directory] | None:
        """The directory and those above it, up to one whose prefixes are known or to the top. None if links
        from different moments form a circle; these are dropped."""
        chain: dict[bytes, _Directory] = {}
        above: bytes | None = key
        while above is not None:
            if above in chain:
                for each in chain:
                    self.forget(each)
                return None
            directory = self._find(above) or self._load(above)
            chain[above] = directory
            if directory.checked == self._renames:
                break
            above = directory.parent
        return chain

    def _descend(self, chain: dict[bytes, _Directory]) -> Prefixes:
        prefixes: Prefixes = ()
        for key, directory in reversed(chain.items()):
            if directory.checked != self._renames:
                if directory.checked < 0 or directory.above != prefixes:
                    directory.above = prefixes
                    directory.prefixes = self._anchors.get(key, ()) + self._beneath(prefixes, directory.name)
                directory.checked = self._renames
            prefixes = directory.prefixes
        return prefixes

    @staticmethod
    def _beneath(above: Prefixes, name: bytes) -> Prefixes:
        return tuple([(slot, path + name + b"/") for slot, path in above if slot.wants_dir(path + name)])
