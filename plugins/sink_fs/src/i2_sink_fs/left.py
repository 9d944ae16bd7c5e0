"""Checks a file before it is changed in place, so that a swapped file gets neither content nor an owner.

A local user who may write in a directory of the replica can replace a file by another one, and keep that one open.
Three checks detect this:

- device, inode and time of birth, where this sink has seen the file before (`Left`; the last ones, in memory): a user
  can remove a file and make others until one of them gets its inode number;
- owner and permissions, which the work node sends with the record (`check_patch`): no user can create a file of another
  owner, and a file of the right owner that more users may read is not the expected one;
- for SETATTR, which changes the owner, the owner so far (`is_foreign`), also of FIFOs, devices and symlinks. Where no
  other user can have put the object into its directory, nothing needs to be known.

Where this process cannot set owners, each file belongs to the one that new files get there (`Owners.own`).
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import NamedTuple

from i2_sink_fs.outcome import Drift
from i2core.api import Meta, Place, Record
from i2core.posix.syscalls import born_ns

MOST = 2000
_NONE = (0, 0, 0)


class Owners(NamedTuple):
    """Whose a file of the replica can be, in one directory."""

    settable: bool
    """This process sets the owners that the source has."""
    own: int | None
    """The owner of what this process makes there, where some owner cannot be set; None: each can be."""


class Left:
    """Device, inode and time of birth by place, of the last `MOST` files that were written in place or read."""

    def __init__(self) -> None:
        self._known: OrderedDict[Place, tuple[int, int, int]] = OrderedDict()

    def note(self, place: Place, fd: int, status: os.stat_result) -> None:
        """Notes that this open object is at the place now, and is the right one."""
        self._known[place] = (status.st_dev, status.st_ino, born_ns(fd))
        self._known.move_to_end(place)
        if len(self._known) > MOST:
            self._known.popitem(last=False)

    def check(self, place: Place, fd: int, status: os.stat_result) -> None:
        """Raises Drift when it is known that another object was there."""
        known = self._known.get(place)
        if known is not None and known != (status.st_dev, status.st_ino, born_ns(fd)):
            raise Drift("the file that was written here was replaced by another one")

    def doubt(self, place: Place) -> None:
        """Notes that the object at the place is not trusted until it was compared."""
        self._known[place] = _NONE

    def forget(self, place: Place) -> None:
        """A record replaces or removes the object at the place."""
        if self._known:
            self._known.pop(place, None)

    def moved(self, old: Place, new: Place) -> None:
        """A file has got another name."""
        known = self._known.pop(old, None)
        self.forget(new)
        if known is not None:
            self._known[new] = known

    def clear(self) -> None:
        """A directory has moved or gone, with whatever is beneath it."""
        self._known.clear()


def check_patch(status: os.stat_result, expected: Meta, owners: Owners, *, modes: bool) -> None:
    """For a file that is to be written in place. `modes`: these can be set here, so they can be relied on.

    Raises:
        Drift: it has another owner, or gives other users more permissions.
    """
    as_sent = owners.settable and (status.st_uid, status.st_gid) == (expected.uid, expected.gid)
    if not as_sent and status.st_uid != owners.own:
        raise Drift("the file here has another owner than the one that was written")
    if modes and status.st_mode & ~expected.mode & 0o077:
        raise Drift("the file here gives access to more users than the one that was written")


def is_foreign(status: os.stat_result, record: Record, meta: Meta, owners: Owners) -> bool:
    """True for an object that is to get attributes, and whose owner is not the one that the work node expects."""
    as_sent = owners.settable and status.st_uid in (meta.uid, record.offset - 1)
    return not as_sent and status.st_uid != owners.own
