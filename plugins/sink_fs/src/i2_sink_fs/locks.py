"""Makes this process's own read-only directories and files writable while a batch changes them.

Without root, a replica of a tree with mode 0555 directories could not be filled, nor patched, nor removed, although its
owner may change every mode in it. Root never comes here.
"""

from __future__ import annotations

import os
import stat

from i2_sink_fs.paths import proc_path
from i2core.posix.opening import DIRECTORY, OBJECT


class Unlocked:
    """The objects that were made writable since the batch began; `restore` gives each its mode back."""

    def __init__(self) -> None:
        self._modes: dict[tuple[int, int], tuple[int, int]] = {}

    def open_up(self, root_fd: int, path: bytes) -> bool:
        """Makes each directory on the way to `path`, and the object itself, writable where they are ours.

        Returns: True when that changed anything, so that another try makes sense.
        """
        changed = self.unlock(root_fd)
        fd = os.open(b".", DIRECTORY, dir_fd=root_fd)
        try:
            for part in path.split(b"/") if path else ():
                try:
                    deeper = os.open(part, OBJECT, dir_fd=fd)
                except OSError:
                    break
                os.close(fd)
                fd = deeper
                changed |= self.unlock(fd)
        finally:
            os.close(fd)
        return changed

    def unlock(self, fd: int) -> bool:
        """Makes one open object writable if it is ours.

        Returns: True when that changed anything.
        """
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            wanted = found.st_mode | stat.S_IRWXU
        elif stat.S_ISREG(found.st_mode):
            wanted = found.st_mode | stat.S_IRUSR | stat.S_IWUSR
        else:
            return False
        if wanted == found.st_mode or found.st_uid != os.geteuid():
            return False
        os.chmod(proc_path(fd), stat.S_IMODE(wanted))
        self._modes.setdefault((found.st_dev, found.st_ino), (os.dup(fd), stat.S_IMODE(found.st_mode)))
        return True

    def settled(self, found: os.stat_result) -> None:
        """A record has set the object's mode, so `restore` leaves it."""
        kept = self._modes.pop((found.st_dev, found.st_ino), None)
        if kept is not None:
            os.close(kept[0])

    def restore(self) -> None:
        """Gives back the modes."""
        for fd, mode in self._modes.values():
            os.chmod(proc_path(fd), mode)
            os.close(fd)
        self._modes.clear()
