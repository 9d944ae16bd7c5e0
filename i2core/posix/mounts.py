"""The mounts that this process sees, from ``/proc/self/mountinfo``; see proc_pid_mountinfo(5)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_ESCAPED = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """One mount. `device` is ``major:minor`` of the file system; `root` is the directory of the file system that is
    mounted, `point` where it is mounted. `kind` is the type of the file system, `options` are its own."""

    id: int
    device: bytes
    root: bytes
    point: bytes
    kind: bytes = b""
    options: bytes = b""


def parse_mounts(text: bytes) -> list[Mount]:
    """The mounts of a ``mountinfo`` file, in its order; malformed lines are skipped."""
    found = []
    for line in text.splitlines():
        mount, _, system = line.partition(b" - ")
        fields, about = mount.split(b" "), system.split(b" ")
        if len(fields) > 5:
            place = (int(fields[0]), fields[2], _plain(fields[3]), _plain(fields[4]))
            found.append(Mount(*place, about[0], _plain(about[-1])))
    return found


def _plain(field: bytes) -> bytes:
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field)


def read_mounts() -> list[Mount]:
    """The mounts that this process sees, in the order in which they were made.

    Raises:
        OSError: ``/proc`` is not readable.
    """
    return parse_mounts(Path("/proc/self/mountinfo").read_bytes())


def mounts_here() -> list[Mount]:
    """As `read_mounts`; none if ``/proc`` is not readable."""
    try:
        return read_mounts()
    except OSError:
        return []


def mount_of(fd: int) -> int:
    """The id of the mount through which an object was opened.

    Raises:
        OSError: ``/proc`` is not readable.
    """
    for line in Path(f"/proc/self/fdinfo/{fd}").read_bytes().splitlines():
        if line.startswith(b"mnt_id:"):
            return int(line.split()[1])
    return 0
