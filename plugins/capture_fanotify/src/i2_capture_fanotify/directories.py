"""From a directory's key to its places beneath the rule's roots: `Directories`, the cache that makes it quick.

Kept is not the path of a directory but its *link*, the parent's key and its name there. So the rename of a directory
changes one link, however much lies beneath it, and what is known of the rest stays true.

How true is a link? It was read from the file system at some moment (or told by the event that made the directory), and
every rename after that moment still stands in the queue, so that it will drop the link. A place is thus never older
than the queue: it is the place of this moment of the queue, or one of the present already, when later renames are
still to be read. Both are right for hints: whoever follows them looks at the present, and the renames follow. A
rename's own names are not taken over as the new link: identical renames merge in the queue, so of "a to b, b to a, a
to b" only the first two are told. The link is dropped and read again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from i2_capture_fanotify.event import FSID_BYTES
from i2_capture_fanotify.filesystem import TOP, FileSystem, Unsettled
from i2core.api import RESERVED_PREFIX

Prefixes = tuple[tuple[int, bytes], ...]
"""Where a directory is to be found: root, and path beneath it that a name can be put behind (``b""`` or ``b"a/b/"``).
More than one when roots or mounts show it more than once; empty outside the roots and in excluded directories."""

_TRIES = 16


class _Directory:
    __slots__ = ("above", "checked", "name", "parent", "prefixes")

    def __init__(self, parent: bytes | None, name: bytes) -> None:
        self.parent = parent
        self.name = name
        self.checked = -1
        """Renames that were known when `prefixes` was last found right."""
        self.above: Prefixes = ()
        """The parent's prefixes that `prefixes` were made from."""
        self.prefixes: Prefixes = ()


class Directories:
    """Places of directories; bounded, the longest unused are forgotten."""

    def __init__(self, limit: int, wants_dir: Callable[[int, bytes], bool]) -> None:
        self._half = max(1, limit // 2)
        self._wants_dir = wants_dir
        # Two halves make a cheap least-recently-used order: what is used moves to the young half; when that is full
        # it becomes the old one, and what the old one still held is forgotten.
        self._young: dict[bytes, _Directory] = {}
        self._old: dict[bytes, _Directory] = {}
        self._renames = 0
        self._anchors: Mapping[bytes, Prefixes] = {}
        self._filesystems: Mapping[bytes, FileSystem] = {}

    def anchor(self, anchors: Mapping[bytes, Prefixes], filesystems: Mapping[bytes, FileSystem]) -> None:
        """Sets the directories whose places are given (roots, mounts beneath them), and file systems by fsid."""
        self.close()
        self._anchors = anchors
        self._filesystems = filesystems
        self.clear()

    def close(self) -> None:
        """Lets go of all mounts until the next question."""
        for filesystem in self._filesystems.values():
            filesystem.close()

    def clear(self) -> None:
        """Forgets all links: renames may have gone unseen."""
        self._young.clear()
        self._old.clear()

    def forget(self, key: bytes) -> None:
        """Forgets the link of one directory that was removed."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def moved(self, key: bytes | None) -> None:
        """A directory got another name; None: it is not known which."""
        self._renames += 1
        if key is None:
            self.clear()
        else:
            self.forget(key)

    def made(self, key: bytes, parent: bytes, name: bytes) -> None:
        """A directory was made: its link need not be read."""
        if self._find(key) is None:
            self._young[key] = _Directory(parent, name)

    def prefixes(self, key: bytes) -> Prefixes:
        """The places of the directory with this key; none when it is outside, excluded or gone. What is gone needs
        no report: its removal was an event of its parent, or of a directory above that.

        Raises:
            Unsettled: the place cannot be told at the moment.
            StopRule: CAP_DAC_READ_SEARCH is missing.
        """
        directory = self._young.get(key)
        if directory is not None and directory.checked == self._renames:
            return directory.prefixes
        for _ in range(_TRIES):
            chain = self._climb(key)
            if chain is not None:
                return self._descend(chain)
        raise Unsettled

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
        """What is gone is kept as a directory without parent: a generation of an inode never comes back."""
        filesystem = self._filesystems.get(key[:FSID_BYTES])
        parent, name = TOP if filesystem is None else filesystem.link(key[FSID_BYTES:]) or TOP
        directory = _Directory(None if parent is None else key[:FSID_BYTES] + parent, name)
        self._young[key] = directory
        return directory

    def _climb(self, key: bytes) -> dict[bytes, _Directory] | None:
        """The directory and those above it, up to one whose prefixes are known or to the top. None when links of
        different moments close a circle: those are forgotten."""
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

    def _beneath(self, above: Prefixes, name: bytes) -> Prefixes:
        if not above or name.startswith(RESERVED_PREFIX):
            return ()
        return tuple((root, path + name + b"/") for root, path in above if self._wants_dir(root, path + name))
