"""The mounted file systems. They matter because inotify reports nothing about a file system that is mounted over a
watched directory, and not all changes of one whose files change on another host."""

from __future__ import annotations

import re
from typing import NamedTuple

MOUNTINFO = "/proc/self/mountinfo"
REMOTE = frozenset(
    b"9p afs ceph cifs coda fuse.ceph fuse.ceph-fuse fuse.curlftpfs fuse.glusterfs fuse.juicefs fuse.rclone fuse.s3fs "
    b"fuse.sshfs gfs2 gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs smb3 smbfs virtiofs".split()
)
"""File systems that other hosts may change without an event on this one."""

_OCTAL = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """A line of mountinfo, see proc_pid_mountinfo(5)."""

    id: int
    point: bytes
    fstype: bytes


def read_mounts(source: str = MOUNTINFO) -> dict[bytes, Mount]:
    """The mounts by mount point; of several on one point, the topmost. Empty if /proc is not available."""
    try:
        with open(source, "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return {}
    mounts = {}
    for line in lines:
        fields, _, tail = line.partition(b" - ")
        parts = fields.split(b" ")
        point = _OCTAL.sub(lambda m: bytes((int(m[1], 8),)), parts[4])
        mounts[point] = Mount(int(parts[0]), point, tail.split(b" ", 1)[0])
    return mounts


def mount_of(path: bytes, mounts: dict[bytes, Mount]) -> Mount | None:
    """The file system on which an absolute path lies."""
    while path not in mounts:
        if path in (b"/", b""):
            return None
        path = path.rpartition(b"/")[0] or b"/"
    return mounts[path]


def beneath(root: bytes, mounts: dict[bytes, Mount]) -> dict[bytes, Mount]:
    """The file systems mounted beneath `root`, by their path beneath it."""
    top = root.rstrip(b"/") + b"/"
    return {point[len(top) :]: mount for point, mount in mounts.items() if point.startswith(top) and point != b"/"}
