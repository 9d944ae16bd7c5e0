"""The replica as it stands: what the history asks of a sink, and what it changes on a replica by itself.

A sink hands over what a record is about to destroy by answering these questions before it carries out the record. It
has the objects open, so nothing is looked up by a path twice: a `Handle` is the sink's own number for an open object,
and follows the object wherever it is moved.

Three directories are no objects of the rule. They have fixed numbers (`TOP`, `STORE`, `STAGING`) and handles like any
other directory, so that moving an object aside, bringing it back and publishing it are plain changes of names:

    TOP       b"0", b"1", …       the root directories, by their number
    STORE     b"4711", …          objects that are gone from the replica and kept whole, by their number in the history
    STAGING   b"0/dir/name", …    staging files, by root and path of the file that they become
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, NewType, Protocol

from i2core.api.records import Buffer, Meta

Handle = NewType("Handle", int)
"""An open object of a replica; valid until it is released."""

STORE, TOP, STAGING = 0, 1, 2
"""Numbers of the directories that are no objects of the rule."""


class Identity(NamedTuple):
    """Which object of the file system this is; used to check, never to find. Each number fits 63 bits."""

    device: int
    inode: int
    generation: int
    """Inode generation, or time of birth in ns: tells a reused inode number; 0 where the file system has neither."""


class Facts(NamedTuple):
    """What an object is like."""

    identity: Identity
    meta: Meta
    """With all attributes that the rule carries; `meta.mode` has the type."""
    size: int
    """Bytes of a regular file, else 0."""
    links: int = 1
    """Names that it has, as `lstat` says."""
    target: bytes = b""
    """A symlink's text."""
    device: int = 0
    """Number of the device that a character or block device stands for."""


class Extent(NamedTuple):
    """A range of a file, in bytes: all of it a hole, or all of it data."""

    lo: int
    hi: int
    hole: bool


class Present(Protocol):
    """Questions about a replica. Each raises OSError when the file system does; a name that is not there is no error.

    They are asked while records of an earlier batch are being carried out. Nobody asks about a name or range that such
    a record changes.
    """

    def directory(self, oid: int) -> Handle:
        """`TOP`, `STORE` or `STAGING`."""

    def child(self, directory: Handle, name: bytes) -> Handle | None:
        """The object that has this name in the directory; a symlink is not followed. None: nothing has it, or what has
        it belongs to the sink itself."""

    def names(self, directory: Handle) -> Iterable[bytes]:
        """All names in the directory, without those of the sink itself."""

    def facts(self, handle: Handle) -> Facts:
        """What `lstat` and the extended attributes say now."""

    def extents(self, handle: Handle, lo: int, hi: int) -> Iterable[Extent]:
        """[lo, hi) of a regular file without gaps, in order; ends at the end of the file."""

    def read(self, handle: Handle, lo: int, hi: int) -> bytes:
        """[lo, hi) of a regular file; shorter at its end."""

    def release(self, handle: Handle) -> None:
        """The handle is not used any more. Handles of the three fixed directories stay valid."""


class Replica(Present, Protocol):
    """Changes that the history makes by itself: at start-up, and in the store. Each is absolute: carried out again
    after a crash, it gives the same result. None is durable before `flush`."""

    def move(self, directory: Handle, name: bytes, target: Handle, new: bytes) -> None:
        """Renames. When nothing has the old name and something the new one, it was moved before. Across file systems
        the object is copied, and is another one by its identity.

        Raises:
            OSError: nothing has the old name and the new one, or both have an object.
        """

    def link(self, handle: Handle, target: Handle, new: bytes) -> None:
        """One more name for an object that is not a directory. It may have that name already.

        Raises:
            OSError: another object has the name.
        """

    def remove(self, directory: Handle, name: bytes) -> None:
        """The name is gone, with all beneath it; nothing has it: no error."""

    def truncate(self, handle: Handle, size: int) -> None:
        """Sets the length; a grown part is a hole."""

    def write(self, handle: Handle, lo: int, data: Buffer) -> None:
        """Overwrites, or writes beyond the end."""

    def punch(self, handle: Handle, lo: int, hi: int) -> None:
        """The blocks of [lo, hi) become holes, the rest of it zeros; the length stays."""

    def set_meta(self, handle: Handle, meta: Meta) -> None:
        """Sets all attributes."""

    def flush(self) -> None:
        """All changes so far are durable."""
