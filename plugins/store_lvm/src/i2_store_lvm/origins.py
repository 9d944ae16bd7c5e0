"""Which logical volume each directory of a replica is on, and where in its file system."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from i2_store_lvm.commands import Failed
from i2_store_lvm.config import LvmConfig
from i2_store_lvm.volumes import Volume, read_groups, read_volumes
from i2core.api import Code
from i2core.posix.mounts import Mount, mount_of, read_mounts

OPTIONS = {b"ext4": "noload", b"ext3": "noload", b"xfs": "norecovery,nouuid"}
"""How a snapshot of each file system is mounted: LVM has frozen it, so there is nothing to recover, and nothing may be
written. An xfs has the identity of its origin."""


class Unfit(Exception):
    """The directories cannot have LVM snapshots: (code, why)."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code


class Origin(NamedTuple):
    """Where a directory of the replica is."""

    volume: Volume
    kind: bytes
    """The type of the file system."""
    path: bytes
    """Of the directory, within the file system."""


def find_origins(roots: Sequence[bytes], config: LvmConfig) -> list[Origin]:
    """The places of the directories, by root; blocks.

    Raises:
        Unfit: one of them is on no volume, on one of another group, on a file system that cannot be mounted twice, or
            its path is mounted twice (3576).
    """
    try:
        volumes = read_volumes()
        if config.volume_group and config.volume_group not in read_groups():
            raise Unfit(Code.VOLUME_GROUP, f"there is no volume group {config.volume_group}")
    except Failed as error:
        raise Unfit(Code.VOLUME_GROUP, str(error)) from error
    mounts = read_mounts()
    found = []
    for root in roots:
        mount = _mount(root, mounts)
        if sum(each.point == mount.point for each in mounts) > 1:
            raise Unfit(Code.MOUNTED_TWICE, f"{os.fsdecode(mount.point)} is mounted several times")
        device = tuple(map(int, mount.device.split(b":")))
        volume = next((each for each in volumes if each.device == device), None)
        if volume is None:
            raise Unfit(Code.LOGICAL_VOLUME, f"{os.fsdecode(root)} is on no logical volume")
        if config.volume_group and volume.group != config.volume_group:
            raise Unfit(Code.VOLUME_GROUP, f"{os.fsdecode(root)} is on volume group {volume.group}")
        if mount.kind not in OPTIONS:
            raise Unfit(Code.LOGICAL_VOLUME, f"{os.fsdecode(root)} is on {mount.kind.decode()}; use ext4 or xfs")
        beneath = os.path.relpath(root, mount.point)
        found.append(Origin(volume, mount.kind, os.path.normpath(os.path.join(mount.root, beneath)).lstrip(b"/")))
    return found


def _mount(root: bytes, mounts: Sequence[Mount]) -> Mount:
    try:
        fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            own = mount_of(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise Unfit(Code.REPLICA_GONE, f"{os.fsdecode(root)}: {error.strerror}") from error
    mount = next((mount for mount in mounts if mount.id == own), None)
    if mount is None:
        raise Unfit(Code.LOGICAL_VOLUME, f"{os.fsdecode(root)} is on an unknown mount")
    return mount
