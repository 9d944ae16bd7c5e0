"""Whether snapshots of a replica can be kept as subvolumes. Reads only."""

from __future__ import annotations

import os

from i2_store_btrfs.subvolume import is_subvolume
from i2core.api import Probe
from i2core.api.snapshots import SnapshotContext
from i2core.posix.beside import NoPlace, beside
from i2core.posix.beside_snapshots import PURPOSE
from i2core.posix.mounts import mount_of, read_mounts


def fits(context: SnapshotContext) -> Probe:
    """As `DriverSpec.probe`."""
    if os.geteuid() != 0:
        return Probe(False, "removing subvolumes needs root")
    for root in context.roots:
        try:
            why = _why_not(root)
            beside(root, context.allowed, context.secret, PURPOSE)
        except NoPlace as error:
            why = str(error)
        except OSError as error:
            why = f"it cannot be opened: {error.strerror}"
        if why:
            return Probe(False, f"{os.fsdecode(root)}: {why}")
    return Probe(True, "the target is a subvolume of btrfs")


def _why_not(root: bytes) -> str:
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        own = mount_of(fd)
        if next((mount.kind for mount in read_mounts() if mount.id == own), b"") != b"btrfs":
            return "the target is not on btrfs"
        return "" if is_subvolume(fd) else "the target is on btrfs, and no subvolume"
    finally:
        os.close(fd)
