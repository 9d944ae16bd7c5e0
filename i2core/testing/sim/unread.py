"""Calls that fail for a while. On the work node, reads of the source: a file is under a lease, a handle is stale, a
disk has errors. On the backup node, calls that need a descriptor, because descriptors or memory are exhausted."""

from __future__ import annotations

import errno
from random import Random

from i2core.testing.sim.disk import Disk
from i2core.testing.sim.inode import Inode, fail
from i2core.testing.sim.machine import running

PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ESTALE)
"""Errors that say nothing about the object."""
SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
SHARES = (0.03, 0.3, 1.0)


class Unread:
    """The reads of a work node: while there are `errors`, some of its reads of the source fail with one of them."""

    def __init__(self, chance: Random, without: Disk) -> None:
        """`without`: on that disk no read fails."""
        self._chance = chance
        self._without = without
        self.errors: tuple[int, ...] = ()
        self.share = 0.0

    def end(self) -> None:
        """No read fails any more."""
        self.errors = ()

    def check(self, inode: Inode) -> None:
        """Counts a read of the running machine.

        Raises:
            OSError: the read fails.
        """
        machine = running.get()
        if not self.errors or machine is None or not machine.epoch or inode.disk is self._without:
            return
        here: Inode | None = inode
        while here is not None:
            if here in machine.realms:
                return  # its own files
            here = here.parent
        if self._chance.random() < self.share:
            raise fail(self._chance.choice(self.errors))


class Scarce:
    """Descriptors and memory of a backup node: this `share` of its opens fails."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.share = 0.0

    def end(self) -> None:
        """No open fails any more."""
        self.share = 0.0

    def check(self) -> None:
        """Called when the running machine is about to open something, before anything is created, as in Linux.

        Raises:
            OSError: the open fails.
        """
        machine = running.get()
        if self.share and machine is not None and not machine.epoch and self._chance.random() < self.share:
            raise fail(self._chance.choice(SCARCE))
