"""The mounts, from /proc/self/mountinfo (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
from typing import NamedTuple

MOUNTINFO = "/proc/self/mountinfo"
_ESCAPE = re.compile(rb"\\([0-7]{3})")

NETWORK = frozenset(
    b"9p afs beegfs ceph cifs coda fuse.glusterfs fuse.sshfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs"
    b" smb3 smbfs virtiofs".split()
)
"""Other hosts can change these without an event here."""


class Mount(NamedTuple):
    """One mount. `device` is the file system's own number, not st_dev of stat(2) (btrfs has one for each subvolume).
    `root` is the directory of the file system that is mounted, `point` where it is mounted."""

    id: int
    device: bytes
    root: bytes
    point: bytes
    fstype: bytes


def _unescape(field: bytes) -> bytes:
    return _ESCAPE.sub(lambda octal: bytes((int(octal[1], 8),)), field)


def parse_mountinfo(text: bytes) -> list[Mount]:
    """The mounts, in the order in which they were made."""
    mounts = []
    for line in text.removesuffix(b"\n").split(b"\n"):
        fields = line.split(b" ")
        fstype = fields[fields.index(b"-", 6) + 1]
        mounts.append(Mount(int(fields[0]), fields[2], _unescape(fields[3]), _unescape(fields[4]), fstype))
    return mounts


def read_mounts() -> list[Mount]:
    """All mounts that this process can see."""
    with open(MOUNTINFO, "rb") as file:
        return parse_mountinfo(file.read())
