"""A throw-away layer above a mount: what is written goes there, and is gone when the mount ends.

The kernel's overlayfs does it. The mount below is detached as soon as the overlay holds it, so there is one mount, and
unmounting it ends both.

    directory ── overlay ─┬─ upper    in a directory of its own in `scratch`, which is removed
                          └─ lower    the FUSE mount, in no place any more

The directory is locked while it is used. What a killed process has left has no lock, and is removed by the next one.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress

import attrs

from i2core.api.errors import UsageError
from i2core.api.records import Entry
from i2core.mount.device import CannotMount, mount, unmount_as_root
from i2core.posix.locks import lock
from i2core.posix.mounts import Mount, mounts_here
from i2core.posix.opening import READABLE
from i2core.posix.path_text import shown

OVERLAY = b"overlay"
HIDDEN = (b"trusted.overlay.", b"user.overlay.")
"""Attributes of the tree that the overlay would take for its own."""
_PREFIX = "i2-mount-"
_SOURCE = b"i2-writable"
_OPTIONS = b"redirect_dir=on,index=off,metacopy=off,xino=off"


@attrs.frozen
class Layer:
    """A layer in a directory of its own."""

    home: bytes
    held: int
    """Its directory, open and locked."""

    @property
    def lower(self) -> bytes:
        """Where the mount below is, until the overlay holds it."""
        return self.home + b"/lower"

    @property
    def upper(self) -> bytes:
        """What was written."""
        return self.home + b"/upper"

    def put_on(self, directory: int, point: bytes, top: Callable[[], Entry], *, everybody: bool) -> None:
        """Mounts the overlay on a directory (an open descriptor, and its path), and detaches the mount below. Blocks.
        `top` reads the top directory of the tree. An overlay reads what is below with the rights of who mounted it, so
        unless `everybody` may enter, its top is closed to all but root.

        Raises:
            CannotMount: the kernel refuses.
        """
        entry = top()
        if everybody:
            os.chown(self.upper, entry.uid, entry.gid)
            os.chmod(self.upper, stat.S_IMODE(entry.mode))
        os.utime(self.upper, ns=(entry.mtime_ns, entry.mtime_ns))
        places = [(b"lowerdir", self.lower), (b"upperdir", self.upper), (b"workdir", self.home + b"/work")]
        options = b",".join([*(name + b"=" + _escaped(path) for name, path in places), _OPTIONS])
        try:
            mount(_SOURCE, b"/proc/self/fd/%d" % directory, OVERLAY, options, is_read_only=False)
        except OSError as error:
            raise CannotMount(
                f"overlayfs is refused: {error.strerror}",
                obj=shown(point),
                next_step="choose a scratch directory on ext4, xfs, btrfs or tmpfs; see the kernel's log",
            ) from error
        unmount_as_root(self.lower, lazily=True)

    def remove(self) -> None:
        """Removes it with all that was written. Blocks."""
        _remove(self.home)
        os.close(self.held)


def new_layer(scratch: bytes) -> Layer:
    """A layer in a new directory in `scratch`. Blocks.

    Raises:
        UsageError: the directory cannot be made.
    """
    try:
        home = os.fsencode(tempfile.mkdtemp(prefix=_PREFIX, dir=os.fsdecode(scratch)))
        layer = Layer(home, os.open(home, READABLE))
        lock(layer.held, alone=True)
        for name in (b"lower", b"upper", b"work"):
            os.mkdir(home + b"/" + name, 0o700)
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", obj=shown(scratch)) from error
    return layer


def remove_leftovers(scratch: bytes) -> None:
    """Removes the layers of processes that were killed, with the mounts that still hold them. Blocks."""
    found = []
    with suppress(OSError), os.scandir(scratch) as scan:
        found = [item.path for item in scan if item.name.startswith(os.fsencode(_PREFIX))]
    for home in found:
        with suppress(OSError):
            fd = os.open(home, READABLE)
            try:
                if os.fstat(fd).st_uid == os.geteuid() and lock(fd, alone=True):
                    _remove(home)
            finally:
                os.close(fd)


def is_ours(mount: Mount) -> bool:
    """True for the overlay of a layer."""
    return mount.kind == OVERLAY and b"/" + os.fsencode(_PREFIX) in mount.options and b"upperdir=" in mount.options


def _remove(home: bytes) -> None:
    """Removes a layer. Never enters what is mounted in it."""
    for each in reversed(mounts_here()):
        if each.point.startswith(home + b"/") or (is_ours(each) and _escaped(home) + b"/" in each.options):
            unmount_as_root(each.point, lazily=True)
    shutil.rmtree(home, ignore_errors=True)


def _escaped(path: bytes) -> bytes:
    """A path in the options of an overlay."""
    for special in (b"\\", b",", b":"):
        path = path.replace(special, b"\\" + special)
    return path
