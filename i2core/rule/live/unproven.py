"""Files of which only the attributes were checked: until when their content counts as unproven."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import NamedTuple

from i2core.rule.catalog.object_names import ObjectNames
from i2core.rule.catalog.rows import Row

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

    This concerns one object of the replica. The same file may have a name beneath another root, where the replica has
    an object of its own, whose content may be proven. The case that breaks otherwise: two names of a large file, each
    beneath a root of its own. After the transfer of one, the other counted as unproven and was sent; after that the
    first one did; and so on for ever, while nothing else was sent.
    """

    def __init__(self, names: ObjectNames) -> None:
        self._names = names
        self._looks: OrderedDict[int, _Look] = OrderedDict()
        """By `Row.key`, oldest check first."""

    def leave(self, row: Row, known_ns: int) -> None:
        """Notes that only the attributes of this file were checked: its content is known up to the change time
        `known_ns`. `row`: as it was noted after the check."""
        key = row.key
        self._names.set_change_time(key, row.ctime_ns, known_ns)
        before = self._looks.pop(key, None)
        if before is not None and before.known_ns != known_ns:
            return
        self._looks[key] = _Look(time.monotonic_ns(), known_ns, row.ctime_ns)
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
            self._names.set_change_time(key, look.known_ns, look.found_ns)
