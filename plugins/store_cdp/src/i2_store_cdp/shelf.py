"""Which segments can be read: those of the manifest, and those that are gone from it but leased."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from i2_store_cdp.home import Home
from i2_store_cdp.manifest import Entry, Manifest
from i2core.api import Code, StopRule
from i2core.api.journal import SegmentGone
from i2core.posix.path_text import shown


class Shelf:
    """The readable segments. Thread-safe: whoever reads sees the manifest before a change or after it."""

    def __init__(self, home: Home, manifest: Manifest, live: Entry) -> None:
        """`live`: the last segment, as far as it is durable."""
        self._home = home
        self._guard = threading.Lock()
        self._leases: Counter[int] = Counter()
        self._kept: dict[int, Entry] = {}
        """Gone from the manifest, and leased."""
        self.manifest = manifest
        self.live = live
        self._named = _by_number(manifest)

    def entries(self) -> tuple[Entry, ...]:
        """All of the manifest, the last one as it is now."""
        with self._guard:
            return (*self.manifest.entries[:-1], self.live)

    def kept_bytes(self) -> int:
        """What leases keep from being freed."""
        with self._guard:
            return sum(entry.size for entry in self._kept.values())

    def grow(self, live: Entry) -> None:
        """More of the last segment is durable."""
        with self._guard:
            self.live = live

    def change(self, manifest: Manifest, live: Entry) -> None:
        """Another manifest is durable. Files of segments that are gone are removed, or kept for who leases them. One
        that cannot be removed now is removed when the journal is opened again."""
        with self._guard:
            named = _by_number(manifest)
            gone = [entry for entry in (*self.manifest.entries[:-1], self.live) if entry.number not in named]
            self.manifest, self.live, self._named = manifest, live, named
            free = [entry for entry in gone if not self._leases[entry.number]]
            self._kept |= {entry.number: entry for entry in gone if self._leases[entry.number]}
        self._remove(free)

    def lease(self, numbers: Sequence[int]) -> None:
        """Keeps these readable until as many calls of `release`. Raises SegmentGone."""
        with self._guard:
            for number in numbers:
                self._entry(number)
            self._leases.update(numbers)

    def release(self, numbers: Sequence[int]) -> None:
        """Ends a lease."""
        with self._guard:
            self._leases.subtract(numbers)
            free = [entry for number, entry in self._kept.items() if not self._leases[number]]
            for entry in free:
                del self._kept[entry.number]
        self._remove(free)

    @contextmanager
    def open(self, number: int) -> Iterator[tuple[int, Entry]]:
        """The file of a segment, open for reading, and its entry.

        Raises:
            SegmentGone: there is no such segment.
            StopRule: its file is missing.
        """
        with self._guard:
            entry = self._entry(number)
        try:
            fd = self._home.open_segment(number)
        except FileNotFoundError as error:
            with self._guard:
                self._entry(number)
            cause = f"segment {number} of the CDP data is missing"
            raise StopRule(cause, code=Code.CDP_INCOMPLETE, obj=shown(self._home.path)) from error
        try:
            yield fd, entry
        finally:
            os.close(fd)

    def _entry(self, number: int) -> Entry:
        if number == self.live.number:
            return self.live
        found = self._named.get(number) or self._kept.get(number)
        if found is None:
            raise SegmentGone(number)
        return found

    def _remove(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            with suppress(OSError):
                self._home.remove_segment(entry.number)


def _by_number(manifest: Manifest) -> dict[int, Entry]:
    return {entry.number: entry for entry in manifest.entries}
