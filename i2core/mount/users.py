"""Who uses a mount, so that it cannot be unmounted: from ``/proc``, as fuser(1) does. The mount itself is not asked:
its server may be the one that wants to know."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from i2core.posix.mounts import Mount

_MOST = 10


class User(NamedTuple):
    """A process that uses a mount, and what for, as lsof(8) names it: cwd, root, exe, mem, or the number of a
    descriptor."""

    pid: int
    name: str
    use: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}, {self.use})"


def users_of(mount: Mount) -> list[User]:
    """The processes that use the mount, as far as this process may see them. Each once."""
    found = []
    for text in os.listdir("/proc"):
        if text.isdigit():
            process = Path("/proc", text)
            use = next(_uses(process, mount), None)
            if use is not None:
                with suppress(OSError):
                    name = (process / "comm").read_bytes().decode("utf-8", "backslashreplace").strip()
                    found.append(User(int(text), name, use))
    return found


def told(users: list[User]) -> str:
    """The users in words."""
    if not users:
        return "somebody whom this user cannot see, or another mount namespace"
    more = f" and {len(users) - _MOST} more" if len(users) > _MOST else ""
    return ", ".join(map(str, users[:_MOST])) + more


def _uses(process: Path, mount: Mount) -> Iterator[str]:
    beneath = mount.point.rstrip(b"/") + b"/"
    for use in ("cwd", "root", "exe"):
        with suppress(OSError):
            path = os.readlink(os.fsencode(process / use))
            if (path + b"/").startswith(beneath):
                yield use
    wanted = b"mnt_id:\t%d" % mount.id
    with suppress(OSError):
        for descriptor in (process / "fdinfo").iterdir():
            with suppress(OSError):
                if wanted in descriptor.read_bytes().splitlines():
                    yield descriptor.name
    with suppress(OSError):
        if b" " + beneath in (process / "maps").read_bytes():
            yield "mem"
