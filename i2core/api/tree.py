"""The contract of a tree that can be read: where a mirror, a compare or a live rule gets names, attributes and content.

    Tree ──directory(path)──▶ OpenDirectory ──open(name)──▶ OpenFile

`i2core.posix.tree.LocalTree` is a directory of this machine. Nobody who reads a tree needs to know that: there are no
descriptors in this contract, so a tree may as well be a state that is no longer on a disk.

All calls block and belong into worker threads. Failures are `OSError`s whose errno says what the caller does next, as
the sets in `i2core.posix.errnos` describe; a tree that is on no disk raises the same ones.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Self

from i2core.api.content import Content
from i2core.api.errors import Code, StopRule
from i2core.api.inode_flags import UNREAD
from i2core.api.records import Entry, Xattrs


class AttributesUnreadable(OSError):
    """The attributes of a name cannot be read; `filename` is the name, as bytes."""


Unread = Callable[[AttributesUnreadable], None]
"""What is done about a name that cannot be read."""


def raise_it(error: AttributesUnreadable) -> None:
    """One name that cannot be read ends all.

    Raises:
        AttributesUnreadable: always.
    """
    raise error


class RootGone(StopRule):
    """The path of a root does not lead to the directory that was opened there."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(
            "the replicated directory is gone",
            code=Code.SOURCE_GONE,
            obj=os.fsdecode(tree.path),
        )
        self.tree = tree


class Opened(ABC):
    """An open directory or file; a context manager that closes it."""

    __slots__ = ()

    @abstractmethod
    def kernel_flags(self) -> int:
        """The flags that chattr(1) has set on it, as the kernel numbers them; 0 where there are none."""

    @abstractmethod
    def close(self) -> None:
        """Closes it. Closing it again is no error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class OpenFile(Content, Opened):
    """A regular file, open for reading.

    Owes: it stays the same file whatever happens to its name, and its content can be read until it is closed.
    """

    __slots__ = ()

    @abstractmethod
    def entry(self, xattrs: int = 0, flags: int = UNREAD) -> Entry:
        """Its present state, under the name by which it was opened. Digest of the extended attributes and inode flags
        are those that the caller has read, since reading them costs more than all the rest.

        Raises:
            OSError: it cannot be read.
        """

    @abstractmethod
    def as_opened(self, xattrs: int = 0, flags: int = UNREAD) -> Entry:
        """As `entry`, with its state when it was opened. That is known already and costs no further call."""

    @abstractmethod
    def xattrs(self) -> Xattrs:
        """Its extended attributes, sorted; empty where there are none.

        Raises:
            OSError: they cannot be read now.
        """

    @abstractmethod
    def flags(self) -> int:
        """Its inode flags and project id, as `i2core.api.inode_flags` describes; 0 where there are none."""


class OpenDirectory(Opened):
    """A directory, open for reading.

    Owes: it stays the same directory whatever happens to its path. An entry is what its name leads to at the moment of
    the call; a symlink is data and is never followed. Names of one object have the same `dev` and `ino`, and no two
    objects that exist have both.
    """

    __slots__ = ()

    @abstractmethod
    def here(self) -> Entry:
        """The directory itself, with an empty name.

        Raises:
            OSError: it cannot be read.
        """

    @abstractmethod
    def entry(self, name: bytes) -> Entry | None:
        """The entry of that name; None when there is none.

        Raises:
            AttributesUnreadable: it is there, and cannot be read.
        """

    @abstractmethod
    def names(self, most: int) -> Iterator[list[bytes]]:
        """All names, each once, up to `most` at a time, in any order; in a root that is limited to one name
        (`Tree.only`) that one. A part may be empty. Names that are created or removed meanwhile may be among them or
        not.

        Raises:
            OSError: it cannot be read.
        """

    def look(self, names: Sequence[bytes]) -> list[Entry | None]:
        """The entry of each of these names, in order, as `entry` gives it.

        Raises:
            AttributesUnreadable: one is there, and cannot be read.
        """
        return [self.entry(name) for name in names]

    def listing(self, most: int, unread: Unread = raise_it) -> Iterator[list[Entry]]:
        """The entries of all `names`. `unread` is called with the error of each name that is there and cannot be read:
        if it returns, the name is left out, and the others are listed all the same.

        Raises:
            OSError: it cannot be read.
        """
        for names in self.names(most):
            yield self._readable(names, unread)

    def _readable(self, names: Sequence[bytes], unread: Unread) -> list[Entry]:
        try:
            return [entry for entry in self.look(names) if entry is not None]
        except AttributesUnreadable as error:
            if len(names) == 1:
                unread(error)
                return []
        return [entry for name in names for entry in self._readable((name,), unread)]

    def entries(self) -> Iterator[Entry]:
        """As `listing`, one by one: each entry is read when it is asked for."""
        for part in self.listing(1):
            yield from part

    @abstractmethod
    def xattrs(self, name: bytes) -> Xattrs | None:
        """The extended attributes of a name, sorted; those of the directory itself for ``b""``. Empty where there are
        none, or nothing of that name; None: they exist and this process may not read them.

        Raises:
            OSError: they cannot be read now.
        """

    @abstractmethod
    def open(self, name: bytes) -> OpenFile:
        """The regular file of that name.

        Raises:
            FileNotFoundError: there is no regular file of that name (any more).
            OSError: it cannot be opened.
        """


class Tree(ABC):
    """A directory with all beneath it.

    Owes:

    - *Nothing outside.* Every path is resolved beneath the root without following a symlink, also while somebody
      exchanges directories for symlinks.
    - *The right directory.* When the root's path leads to another directory than the one that was opened, or to none,
      calls raise `RootGone` or go on with the directory that was opened. They never read the other one.
    - *Several threads* may call it at once; what it has opened is used by one thread at a time.
    """

    path: bytes
    """Where it is, or was: for people, and for drivers that watch it."""
    only: bytes | None
    """The root is limited to the object of this name; None: all of it."""
    flags: bool
    """Inode flags are read as well; otherwise entries have `UNREAD`."""
    is_fixed: bool = False
    """Nothing in it changes: what was read once may be kept for as long as it is open."""

    @abstractmethod
    def directory(self, path: bytes) -> OpenDirectory:
        """The directory at `path`; the root for ``b""``.

        Raises:
            OSError: ENOENT, ENOTDIR or ELOOP when the path does not lead to a directory of the tree.
            RootGone: the root itself is gone. The same holds for `lookup`.
        """

    @abstractmethod
    def lookup(self, path: bytes) -> Entry | None:
        """The present entry at `path`; None when there is none. The root's own entry for ``b""``.

        Raises:
            OSError: it cannot be read.
        """

    @abstractmethod
    def is_present(self) -> bool:
        """False when the root's path no longer leads to the directory that was opened."""

    def job(self) -> AbstractContextManager[None]:
        """During the body this thread may be served from what the tree remembers of it: the way to a directory that is
        read after its neighbour, for example. Nothing remembered is older than the body, so a job is entered after it
        has taken its hints. Not to be entered by a generator, nor within a job."""
        return nullcontext()

    def rest(self) -> None:  # noqa: B027 (a tree that keeps nothing open has nothing to give back)
        """Nothing is read for now: gives back what can be opened again. Called while no thread reads."""

    @abstractmethod
    def close(self) -> None:
        """Closes it. Closing it again is no error."""
