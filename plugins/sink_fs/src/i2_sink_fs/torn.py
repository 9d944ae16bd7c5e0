"""Files whose content is known to be wrong: a record that was to change it has failed.

The work node hears of the failure and compares the file. But it may lose its power before that. Its next mirror
compares by size and time, and the records after the failed one would have given the file those of the source:

    WRITE big 4096 …     fails, the quota is used up
    PUBLISH big          the name, the size, the time: as on the source, with a hole in it, for good

So such a file gets neither name nor time, until the work node has asked for its content, or it was made anew. Files are
known by device and inode: the name may change in between.
"""

from __future__ import annotations

import os
import stat

from i2_sink_fs.outcome import Drift


class Torn:
    """The files of all sinks of a process: a later session goes on with the records of an earlier one."""

    def __init__(self) -> None:
        self._files: set[tuple[int, int]] = set()

    @property
    def is_empty(self) -> bool:
        """True when none is known."""
        return not self._files

    def add(self, status: os.stat_result) -> None:
        """Notes that a record has failed to change the content of this file. An object of another type in its place has
        no content that anybody would ask for."""
        if stat.S_ISREG(status.st_mode):
            self._files.add((status.st_dev, status.st_ino))

    def check(self, status: os.stat_result) -> None:
        """Called before the file looks complete.

        Raises:
            Drift: it is not.
        """
        if self._files and (status.st_dev, status.st_ino) in self._files:
            raise Drift("a part of its content could not be written")

    def discard(self, status: os.stat_result) -> None:
        """Notes that the file is new, or that the work node has asked what is in it."""
        if self._files:
            self._files.discard((status.st_dev, status.st_ino))
