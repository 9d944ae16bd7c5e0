"""Files of which only the attributes were checked: until when their content counts as unproven."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import NamedTuple

from i2core.api import Entry
from i2core.rule.catalog.object_names import ObjectNames

PROVEN_AFTER_NS = 10_000_000_000
"""Everything that happened before a check is reported at most so long after it: as a change or as a loss."""
UNPROVEN = 100_000
"""At most so many files are remembered."""


class _Look(NamedTuple):
    """A check of a file's attributes alone, at `at_ns` (`time.monotonic_ns`): the change time up to which its content
    is known, and the change time that was found."""

    at_ns: int
    known_ns: int
    found_ns: int


class Unproven:
    """Prevents that a check of attributes counts as a check of content.

    The case that breaks without it: an application writes into a file and sets its modification time back, so that size
    and time are as before; then it changes the mode. The report of the write is lost, the report of the mode is not.
    The check of the mode would note the current change time, which is later than the write. The compare after the loss
    would find nothing newer than that, and the old content would stay on the replica, with a lag of 0. So the catalog
    keeps the old change time until it is certain that nothing more will be reported.
    """

    def __init__(self, names: ObjectNames) -> None:
        self._names = names
        self._looks: OrderedDict[tuple[int, int], _Look] = OrderedDict()
        """By inode and device, oldest check first."""

    def leave(self, entry: Entry, known_ns: int) -> None:
        """Notes that only the attributes of this file were checked: its content is known up to the change time
        `known_ns`."""
        key = (entry.ino, entry.dev)
        self._names.set_change_time(*key, entry.ctime_ns, known_ns)
        before = self._looks.pop(key, None)
        if before is not None and before.known_ns != known_ns:
            return
        self._looks[key] = _Look(time.monotonic_ns(), known_ns, entry.ctime_ns)
        if len(self._looks) > UNPROVEN:
            self._looks.popitem(last=False)  # the next compare reads its content

    def prove(self, seen_ns: int) -> None:
        """All reports before `seen_ns` are processed. Changes that happened long enough before cannot be reported any
        more, so the content of the files checked then is what was sent."""
        while self._looks:
            key, look = next(iter(self._looks.items()))
            if look.at_ns + PROVEN_AFTER_NS > seen_ns:
                return
            del self._looks[key]
            self._names.set_change_time(*key, look.known_ns, look.found_ns)
