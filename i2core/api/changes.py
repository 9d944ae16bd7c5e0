"""What a capture reports: a change beneath a watched root, or that changes were lost.

A change is a *hint* (look at this name again), optionally with an exact byte range. The source
checks hints and never replays them as steps: what is on disk now decides. So duplicates, merged masks and reordered
neighbours do no harm.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Place(NamedTuple):
    """A path beneath one of a rule's roots. `path` is raw bytes relative to the root, without a leading or
    trailing slash; ``b""`` is the root itself."""

    root: int
    path: bytes

    @property
    def above(self) -> Place:
        """The directory that holds this place; the root for a name in it, and for the root itself."""
        return Place(self.root, self.path.rpartition(b"/")[0])

    def child(self, name: bytes) -> Place:
        """A name in this directory."""
        return Place(self.root, join(self.path, name))


def join(path: bytes, name: bytes) -> bytes:
    """The path of `name` in the directory at `path`, both relative to a root."""
    return path + b"/" + name if path else name


class Op(enum.Enum):
    """What the operating system reported. `CREATE` covers link, symlink, mknod and a move in from outside;
    `REMOVE` covers a move out. `RENAME` has both names beneath the rule's roots."""

    CREATE = "create"
    MODIFY = "modify"
    ATTRIB = "attrib"
    REMOVE = "remove"
    RENAME = "rename"


class Change(NamedTuple):
    """One hint. Units: `first`, `length` in bytes; both 0 and `exact` False when only the name is known."""

    op: Op
    place: Place
    is_dir: bool = False
    to: Place | None = None
    """The new name, for `RENAME` alone."""
    exact: bool = False
    """True: nothing but ``[first, first + length)`` of the file's content changed."""
    first: int = 0
    length: int = 0
    inode: int = 0
    """Number of the file that changed; 0 where the capture does not know it. The name need not lead to this file any
    more: one that is written through an open descriptor goes by the name under which it was opened, also when that is
    gone and others are left (``ln log log.1; rm log``). With the path ``b""`` and `is_dir` False the name is not known,
    or lies outside the roots; the file may have others within."""


class Lost(NamedTuple):
    """Changes beneath `place` may have been dropped: that subtree, and no more, is compared again."""

    place: Place
    reason: str
