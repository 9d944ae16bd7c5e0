"""The contract of a store of snapshots: past states of one replica, each of them whole or not there.

    create ──▶ kept, whole ──▶ opened as trees, by any number of readers
                    └──▶ removed; removed again: no complaint

A store knows names and bytes, and nothing else. Which snapshots a rule has, when each was taken, and who reads it is
the caller's matter (`i2core.snapshot`): it notes a snapshot durably before it calls `create`, and removes after a crash
what it does not know to be complete.

`i2core.api` does not import this module: who takes no snapshots does not load it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs

from i2core.api.codes import Code
from i2core.api.errors import UsageError
from i2core.api.tree import Tree


class SnapshotGone(UsageError):
    """The store has no snapshot of this name, or not all of it."""

    code = Code.SNAPSHOT_MOUNT


class Moments(Protocol):
    """The history of the replica, as far as a store may use it."""

    @property
    def kept(self) -> Collection[str]:
        """The names of all moments that are kept for a store."""

    async def keep(self, name: str) -> None:
        """Keeps the present state under this name; durable when it returns.

        Raises:
            StopRule: the history cannot be written (3549).
        """

    async def give_up(self, name: str) -> None:
        """Nobody needs the moment of this name any more; there is none: no error.

        Raises:
            StopRule: the history cannot be written (3549).
        """

    def tree(self, root: int, name: str) -> Tree:
        """One root at that moment; the caller closes it.

        Raises:
            SnapshotGone: there is no such moment.
        """


@attrs.frozen(kw_only=True)
class SnapshotContext:
    """For snapshot stores: one replica of this node."""

    roots: tuple[bytes, ...]
    """The absolute directories of the replica."""
    allowed: tuple[bytes, ...]
    """The directories that they lie beneath. A store keeps nothing above these."""
    secret: bytes = attrs.field(default=b"", repr=False)
    """As `SinkContext.secret`: what a store keeps beside the replica has a name that nobody else can guess."""
    flags: bool = False
    """The rule carries inode flags and project ids: trees are opened with them."""
    moments: Callable[[], AbstractAsyncContextManager[Moments]] | None = None
    """Opens the history of the replica; None: it has none."""
    say: Callable[[str], None] = lambda line: None


class SnapshotStore(ABC):
    """Keeps snapshots of one replica.

    Owes, in the order of importance:

    - *Whole.* `names` and `open` know only what is complete. Once `create` has returned, the snapshot survives a kill
      and a power cut; where it raised, was cancelled or cut off, there is no snapshot of that name, until `remove` has
      cleared the way for it.
    - *Unchanged.* What is read of a snapshot is the state at `create`, byte by byte and with all attributes, whatever
      happens to the replica. Nothing of the replica is changed by it.
    - *Removed for certain.* `remove` takes away what is there, complete or not. Begun again after a crash, it ends its
      work; a snapshot that is gone is no error. A full disk does not hinder it.
    - *Nothing outside.* A symlink is data and never followed; only this process's user can enter what a store has made.
    - *Several at once.* `create` and `remove` wait for each other where they must; readers wait for nobody.

    Names consist of ``0-9``, ``a-z`` and ``-``, and are never used twice by the caller.
    """

    @abstractmethod
    async def create(self, name: str, roots: Sequence[int]) -> None:
        """Takes a snapshot of the replica, which is at rest: nobody changes it meanwhile, and all of it is durable.
        `roots`: descriptors of its directories, open for reading; the caller has checked that they are the right ones,
        and closes them.

        Cancellation: as a failure.

        Raises:
            StopRule: no room (3606, 3573), or the store fails (3573).
        """

    @abstractmethod
    async def remove(self, name: str) -> None:
        """Removes a snapshot, or what is left of one. Nobody reads it.

        Raises:
            StopRule: something of it stays (3551); it is not complete any more, so `names` does not have it.
        """

    @abstractmethod
    async def names(self) -> Collection[str]:
        """The snapshots that are complete.

        Raises:
            StopRule: the store cannot be read: its disk is missing, for example.
        """

    @abstractmethod
    async def space(self, name: str) -> int | None:
        """Bytes on disk that only this snapshot needs, that is, those that its removal would free; None: nobody can
        tell.

        Raises:
            SnapshotGone: there is none of that name.
            StopRule: it cannot be read.
        """

    async def tend(self) -> None:  # noqa: B027 (in most stores nothing spoils)
        """Looks after the snapshots: where one may fill up and be lost, it gets more room. Called about once a minute
        while there are any, for drivers with `DriverSpec.tended`. What it cannot do it says (`SnapshotContext.say`).

        Raises:
            StopRule: the store cannot be read.
        """

    @abstractmethod
    def open(self, name: str) -> AbstractAsyncContextManager[Sequence[Tree]]:
        """The snapshot as trees, by root, within the block. Each is fixed (`Tree.is_fixed`).

        Raises:
            SnapshotGone: there is none of that name.
            StopRule: it cannot be opened (3583).
        """
