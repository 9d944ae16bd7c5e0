"""What a sink keeps from call to call: the state of its file systems, of its private directories, and of the files that
records change in several batches."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence

from i2_sink_fs.attributes import Attributes
from i2_sink_fs.flags import Flags
from i2_sink_fs.home import Homes, InUse
from i2_sink_fs.known import KnownStores
from i2_sink_fs.left import Left, Owners
from i2_sink_fs.open_directories import Directory
from i2_sink_fs.paths import proc_path
from i2_sink_fs.torn import Torn
from i2_sink_fs.traits import Traits, probe
from i2_sink_fs.volumes import Volumes
from i2core.api import Place, SinkContext
from i2core.api.drivers import EVERY_TIME
from i2core.api.present import Identity
from i2core.posix.identity import filesystem_id
from i2core.posix.syscalls import born_ns

_63_BITS = (1 << 63) - 1


class Names:
    """The names of a node's private directories and of what is in them, and of its stores (`present.stores`), by root.
    They depend on the node's secret and the root's path alone, so that they are found again after a restart."""

    def __init__(self, secret: bytes, roots: Sequence[bytes]) -> None:
        digests = [hashlib.blake2b(root, key=secret[:64], person=b"i2 staging").hexdigest().encode() for root in roots]
        history = [_history_digest(secret, root) for root in (b"", *roots)]
        self.private = tuple(b".i2-staging-" + digest[:32] for digest in digests)
        self.new = tuple(b"new-" + digest[32:64] for digest in digests)
        self.tree = tuple(b"tree-" + digest[64:96] for digest in digests)
        self.store = tuple(b".i2-history-" + digest for digest in history[1:])
        self.copy = b"copy-" + history[0]
        """The name of an object that is being copied, in a store or in any other directory."""
        self.reserved = tuple(frozenset((private, *self.store)) for private in self.private)
        """By root the names that no record may use."""


def _history_digest(secret: bytes, root: bytes) -> bytes:
    return hashlib.blake2b(root, key=secret[:64], person=b"i2 history", digest_size=16).hexdigest().encode()


class Kept:
    """The state that all calls of one sink share."""

    def __init__(self, context: SinkContext, roots: Sequence[bytes]) -> None:
        self.names = Names(context.secret, roots)
        self.attributes = Attributes(context.say, self.known_traits)
        self.flags = Flags(on=context.flags, unsupported=self.attributes.unsupported)
        self.volumes = Volumes()
        self.left = Left()
        """The files that were written in place."""
        self.torn: Torn = context.shared.setdefault("torn files", Torn())
        self._stores: KnownStores = context.shared.setdefault("known directories", KnownStores())
        self._memory = context.memory
        self.known = self._stores.open(context.memory, context.say)
        """The directories as they were left."""
        self.staging: set[Place] = set()
        """The files that are being staged, as far as this sink saw them begin."""
        homes: Homes = context.shared.setdefault("private directories", Homes())
        self.homes = homes.of(self.names.private)
        self.in_use = InUse(self.homes)
        self._traits: dict[int, Traits] = {}
        self._filesystems: dict[int, int] = {}

    def close(self) -> None:
        """Closes what is kept in a file."""
        self._stores.close(self._memory, self.known)

    def traits(self, root: int, directory: Directory) -> Traits:
        """Of the directory's file system."""
        known = self._traits.get(directory.device)
        if known is None:
            with self.flags.lifted(directory.fd):
                known = probe(proc_path(directory.fd), self.names.private[root] + b"-probe")
                if self.flags.on:
                    with contextlib.suppress(OSError), _times_kept(directory.fd):
                        self.flags.learn(directory, self.names.private[root])
            if known is None:
                return Traits(os.geteuid(), True, EVERY_TIME)
            self._traits[directory.device] = known
        return known

    def owners(self, root: int, directory: Directory) -> Owners:
        """Whose the files in the directory can be."""
        attributes = self.attributes
        return Owners(attributes.owns, None if attributes.sets_owner else self.traits(root, directory).uid)

    def identity(self, fd: int, status: os.stat_result) -> Identity:
        """Which object this is that is open, and `status`. Without the number of the device, which another start of the
        machine may change: the file system's own id is taken, and where it has none, the time of birth has to do."""
        filesystem = self._filesystems.get(status.st_dev)
        if filesystem is None:
            filesystem = self._filesystems[status.st_dev] = filesystem_id(fd, status.st_dev)
        return Identity(filesystem & _63_BITS, status.st_ino & _63_BITS, born_ns(fd) & _63_BITS)

    def known_traits(self, device: int) -> Traits | None:
        """Of a file system that was asked for before."""
        return self._traits.get(device)

    @contextlib.contextmanager
    def unnoticed(self, fd: int) -> Iterator[None]:
        """Within the block, names of this sink's own may come and go in an open directory of the replica: its pins are
        off, and its times are put back at the end."""
        with self.flags.lifted(fd), _times_kept(fd):
            yield

    @property
    def at_rest(self) -> bool:
        """True when no root has a private directory."""
        return not any(home.made for home in self.homes)

    def take_removals(self) -> set[int]:
        """The file systems on which a private directory was removed since the last call."""
        devices = {home.removal_on for home in self.homes if home.removal_on is not None}
        for home in self.homes:
            home.removal_on = None
        return devices


@contextlib.contextmanager
def _times_kept(fd: int) -> Iterator[None]:
    """The directory shows no trace of a name that comes and goes: its times are those of the source."""
    before = os.fstat(fd)
    try:
        yield
    finally:
        os.utime(proc_path(fd), ns=(before.st_mtime_ns, before.st_mtime_ns))
