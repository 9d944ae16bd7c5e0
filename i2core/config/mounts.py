"""Locates a path on its file system: bind mounts make one directory visible under several names.

Each line of ``/proc/self/mountinfo`` maps a directory (`Mount.root`) of a file system (`Mount.device`) to a mount
point (`Mount.point`). These lines alone decide whether a path can be reached beneath a directory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from i2core.api import Code, UsageError
from i2core.config.places import beneath, real
from i2core.config.words import bilingual
from i2core.posix.mounts import Mount, mounts_here


def reaches(directory: bytes, path: bytes, mounts: Sequence[Mount]) -> bool:
    """True when `path` can be reached beneath `directory`, by its own name or through a bind mount. Both are absolute
    and without symlinks; the disk is not accessed."""
    if beneath(path, directory):
        return True
    place = _place(path, mounts)
    own = _place(directory, mounts)
    if place is None or own is None:
        return False
    shown = [own, *((mount.device, mount.root) for mount in mounts if beneath(mount.point, directory))]
    return any(place[0] == device and beneath(place[1], root) for device, root in shown)


def overlap(one: bytes, other: bytes, mounts: Sequence[Mount]) -> bool:
    """True when both are the same directory, or one can be reached beneath the other (`reaches`)."""
    return reaches(one, other, mounts) or reaches(other, one, mounts)


def check_apart(place: bytes, cdp_dir: bytes) -> None:
    """A backup node calls this for each directory that a work node may write. `cdp_dir`: where it keeps histories.

    Raises:
        UsageError: (`Code.ILLEGAL_PATH`) one of the two can be reached beneath the other, also by way of a symlink or
        a bind mount. The work node could change what its own past was, or that of others.
    """
    if overlap(real(place), real(cdp_dir), mounts_here()):
        own = os.fsdecode(cdp_dir)
        raise UsageError(
            bilingual(
                f"the directory and this node's cdp_dir {own} are the same or nested",
                f"该目录与本节点的 cdp_dir {own} 相同或互相包含",
            ),
            code=Code.ILLEGAL_PATH,
            obj=os.fsdecode(place),
            next_step=bilingual("choose another target, or another cdp_dir", "请改用其他目标，或其他 cdp_dir"),
        )


def _place(path: bytes, mounts: Sequence[Mount]) -> tuple[bytes, bytes] | None:
    """File system of `path`, and its path within it."""
    best: Mount | None = None
    for mount in mounts:
        # Of two mounts at one mount point, the later one covers the earlier one.
        if beneath(path, mount.point) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    if best is None:
        return None
    rest = path[len(best.point.rstrip(b"/")) :]
    return best.device, (best.root.rstrip(b"/") + rest) or b"/"
