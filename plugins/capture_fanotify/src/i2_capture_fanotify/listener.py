"""One rule's end of the capture: its roots, and the reports that it has not fetched yet."""

from __future__ import annotations

import os

from i2core.api import CaptureContext, Change, Lost, Place, StopRule

MOST_WAITING = 100_000
"""Most unfetched items of a rule, about 200 bytes each; above it, its roots count as lost."""


class Slot:
    """One root of one rule."""

    __slots__ = ("listener", "path", "root")

    def __init__(self, listener: Listener, root: int, path: bytes) -> None:
        self.listener = listener
        self.root = root
        """Its index in the rule."""
        self.path = path
        """The path, without symlinks."""

    def wants_dir(self, path: bytes) -> bool:
        """True if the rule protects the contents of this directory."""
        return self.listener.context.wants_dir(self.root, path)

    def lost(self, path: bytes, reason: str) -> None:
        """Reports that changes at or beneath `path` may have been missed."""
        self.listener.waiting.append(Lost(Place(self.root, path), reason))


class Listener:
    """The roots of one rule, and the reports `waiting` for it."""

    def __init__(self, context: CaptureContext) -> None:
        self.context = context
        self.slots = tuple(Slot(self, root, os.path.realpath(path)) for root, path in enumerate(context.roots))
        self.waiting: list[Change | Lost] = []
        self.failure: StopRule | None = None
        """The error that ended this rule's capture."""

    @property
    def ready(self) -> bool:
        """True if there is something to fetch."""
        return bool(self.waiting) or self.failure is not None

    def fetch(self) -> list[Change | Lost]:
        """Returns the waiting reports.

        Raises:
            StopRule: nothing waits, and the capture has ended.
        """
        if not self.waiting and self.failure is not None:
            raise self.failure
        fetched, self.waiting = self.waiting, []
        return fetched

    def bound(self) -> None:
        """Replaces the waiting reports by a `Lost` for each root if there are too many."""
        if len(self.waiting) > MOST_WAITING:
            self.waiting.clear()
            for slot in self.slots:
                slot.lost(b"", "more changes than are kept were not fetched")
