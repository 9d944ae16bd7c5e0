"""Mounts and unmounts: with mount(2) as root, with fusermount3(1) as another user.

fusermount3 is a setuid program of the package fuse3. It mounts for a user in a directory of his own, and hands over the
open ``/dev/fuse``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import subprocess
from functools import partial

import trio

from i2core.api.errors import Code, I2Error
from i2core.api.threads import in_thread
from i2core.mount.protocol import READ_BYTES
from i2core.posix.mounts import Mount, mounts_here
from i2core.posix.path_text import shown

KIND = b"fuse.i2"
"""How the mounts of i2 are listed by mount(8)."""
_DEVICE = "/dev/fuse"
_READ_ONLY, _NO_SUID, _NO_DEV = 1, 2, 4  # MS_RDONLY, MS_NOSUID, MS_NODEV of linux/mount.h
_DETACH, _NO_FOLLOW = 2, 8  # MNT_DETACH, UMOUNT_NOFOLLOW
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


class CannotMount(I2Error):
    """The mount cannot be made; nothing was changed."""

    code = Code.SNAPSHOT_MOUNT


async def mount_fuse(directory: int, point: bytes, *, everybody: bool) -> int:
    """Mounts on a directory (an open descriptor, and its path); returns the open ``/dev/fuse``. `everybody`: also other
    users may enter, as far as modes and ACLs of the tree let them.

    Raises:
        CannotMount: this host or this user cannot.
    """
    if os.geteuid():
        if everybody:
            raise CannotMount("only root may let other users in", next_step="mount as root")
        return await _by_helper(point)
    return await in_thread(partial(_as_root, directory, point, everybody=everybody))


def _as_root(directory: int, point: bytes, *, everybody: bool) -> int:
    try:
        fuse = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _no_fuse(error) from error
    others = ",allow_other" if everybody else ""
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,default_permissions,max_read={READ_BYTES}{others}"
    try:
        mount(b"i2", b"/proc/self/fd/%d" % directory, KIND, options.encode(), is_read_only=True)
    except OSError as error:
        os.close(fuse)
        raise _refused(error, point) from error
    mounted = top_mount(point)
    if mounted is not None:
        _read_ahead(mounted.device)
    return fuse


async def _by_helper(point: bytes) -> int:
    helper = shutil.which("fusermount3")
    if helper is None:
        raise CannotMount(
            "fusermount3 is missing, which mounts for users other than root",
            next_step="install the package fuse3, or mount as root",
        )
    options = f"ro,nosuid,nodev,default_permissions,fsname=i2,subtype=i2,max_read={READ_BYTES}"
    ours, its = socket.socketpair()
    with ours:
        with its:
            done = await trio.run_process(
                [helper, "-o", options, "--", os.fsdecode(point)],
                pass_fds=(its.fileno(),),
                env={**os.environ, "_FUSE_COMMFD": str(its.fileno())},
                check=False,
                capture_stderr=True,
            )
        if done.returncode:
            raise CannotMount(_words(done), obj=shown(point), next_step="see fusermount3(1), or mount as root")
        _, received, _, _ = socket.recv_fds(ours, 1, 1)
    os.set_inheritable(received[0], False)
    return received[0]


def mount(source: bytes, target: bytes, kind: bytes, options: bytes, *, is_read_only: bool) -> None:
    """mount(2), without set-user-ID programs and devices.

    Raises:
        OSError: it failed.
    """
    flags = _NO_SUID | _NO_DEV | (_READ_ONLY if is_read_only else 0)
    if _libc.mount(source, target, kind, flags, options):
        raise _last_error(target)


async def unmount(point: bytes, *, lazily: bool = False) -> None:
    """Unmounts what is on top at a mount point. `lazily`: also while it is used; nobody finds it there any more.

    Raises:
        OSError: EBUSY while it is used; another for any other reason.
    """
    if not os.geteuid():
        return await in_thread(partial(unmount_as_root, point, lazily=lazily))
    command = [
        shutil.which("fusermount3") or "fusermount3",
        "-u",
        *(["-z"] if lazily else []),
        "--",
        os.fsdecode(point),
    ]
    done = await trio.run_process(command, check=False, capture_stderr=True, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        code = errno.EBUSY if b"busy" in done.stderr else errno.EPERM
        raise OSError(code, _words(done), point)


def unmount_as_root(point: bytes, *, lazily: bool) -> None:
    """As `unmount`; blocks."""
    if _libc.umount2(point, _NO_FOLLOW | (_DETACH if lazily else 0)):
        raise _last_error(point)


def top_mount(point: bytes) -> Mount | None:
    """What is mounted on a directory, by its path without symlinks; None: nothing."""
    return next((each for each in reversed(mounts_here()) if each.point == point), None)


def _read_ahead(device: bytes) -> None:
    """Lets the kernel read ahead as far as one request may go. Only root may; for others it stays at 128 KiB."""
    try:
        with open(b"/sys/class/bdi/%s/read_ahead_kb" % device, "wb", buffering=0) as setting:
            setting.write(b"%d" % (READ_BYTES // 1024))
    except OSError:
        return  # only slower


def _words(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode("utf-8", "backslashreplace").strip() or f"fusermount3 exited with {done.returncode}"


def _no_fuse(error: OSError) -> CannotMount:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return CannotMount(
            "the kernel has no FUSE", obj=_DEVICE, next_step="modprobe fuse; in a container, add /dev/fuse"
        )
    return CannotMount(error.strerror or "cannot be opened", obj=_DEVICE, next_step="in a container, allow /dev/fuse")


def _refused(error: OSError, point: bytes) -> CannotMount:
    needs = "CAP_SYS_ADMIN is needed: in a container, add it" if error.errno == errno.EPERM else "see the kernel's log"
    return CannotMount(f"mount(2) failed: {error.strerror}", obj=shown(point), next_step=needs)


def _last_error(path: bytes) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), path)
