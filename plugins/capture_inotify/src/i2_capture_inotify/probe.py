"""Checks before the start whether inotify can watch all of the sources here."""

from __future__ import annotations

import errno
import os

from i2_capture_inotify.kernel import Inotify, limit
from i2_capture_inotify.mounts import REMOTE, mount_of, read_mounts
from i2_capture_inotify.walk import count_directories
from i2core.api import CaptureContext, Probe

FEWEST = 65536
"""The value proposed for a limit that is too small for any current host."""


def probe(context: CaptureContext) -> Probe:
    """Counts the directories, up to the limit of watches."""
    mounts = read_mounts()
    for root in context.roots:
        mount = mount_of(os.path.realpath(root), mounts)
        if mount is not None and mount.fstype in REMOTE:
            why = f"{os.fsdecode(root)!r} is on {os.fsdecode(mount.fstype)}: changes by other hosts are not reported"
            return Probe(False, why)
    try:
        Inotify().close()
    except OSError as error:
        return Probe(False, instance_refused(error))
    allowed = limit("max_user_watches")
    needed = count_directories(context, allowed)
    if needed > allowed:
        return Probe(False, watches_refused(needed, allowed, exact=False))
    return Probe(True, f"{needed} directories, {allowed} watches allowed")


def watches_refused(needed: int, allowed: int, *, exact: bool) -> str:
    """One line: the watches needed, the watches allowed, and the setting to change."""
    proposed = max(FEWEST, 1 << (2 * needed - 1).bit_length())
    return (
        f"inotify needs a watch for each of {'' if exact else 'at least '}{needed} directories, and "
        f"fs.inotify.max_user_watches allows this user {allowed} in all programs together; "
        f"raise it: sysctl -w fs.inotify.max_user_watches={proposed}"
    )


def instance_refused(error: OSError) -> str:
    """One line: the reason why the kernel refused an inotify instance."""
    if error.errno != errno.EMFILE:
        return f"inotify is not available: {error.strerror}"
    return (
        f"no more inotify instances: fs.inotify.max_user_instances allows this user {limit('max_user_instances')} "
        "(or no more open files: ulimit -n); raise it: sysctl -w fs.inotify.max_user_instances=1024"
    )
