"""Whether snapshots of a replica can be kept as clones. Reads only."""

from __future__ import annotations

import os

from i2core.api import Probe
from i2core.api.snapshots import SnapshotContext
from i2core.posix.beside import NoPlace, beside
from i2core.posix.beside_snapshots import PURPOSE
from i2core.posix.mounts import mount_of, read_mounts

KINDS = (b"xfs", b"btrfs", b"bcachefs")
"""File systems that can clone. An xfs that was made without reflinks says so at the first snapshot."""


def fits(context: SnapshotContext) -> Probe:
    """As `DriverSpec.probe`."""
    if context.flags:
        return Probe(False, "the rule has inode_flags, which clones do not keep")
    for root in context.roots:
        try:
            beside(root, context.allowed, context.secret, PURPOSE)
            kind = _kind(root)
        except NoPlace as error:
            return Probe(False, f"{os.fsdecode(root)}: {error}")
        except OSError as error:
            return Probe(False, f"{os.fsdecode(root)} cannot be opened: {error.strerror}")
        if kind not in KINDS:
            return Probe(False, f"{os.fsdecode(root)} is on {kind.decode()}, which cannot clone files")
    return Probe(True, "files are cloned")


def _kind(root: bytes) -> bytes:
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        own = mount_of(fd)
    finally:
        os.close(fd)
    return next((mount.kind for mount in read_mounts() if mount.id == own), b"an unknown file system")
