"""The position of a replica as it is on disk. Each change is saved first, and known afterwards."""

from __future__ import annotations

from collections.abc import Callable

import trio

from i2core.api import Code, in_thread
from i2core.rule.backup.replica.position import Damaged, Position, PositionFile


class SavedPosition:
    """The position in one file."""

    def __init__(self, file: PositionFile, say: Callable[[Code | None, str], None]) -> None:
        """Reads it. If the file is damaged, nothing in it is trusted, not even the epoch.

        Raises:
            LinkError: it cannot be read now.
        """
        self.file = file
        self.was_damaged = False
        self.turn = trio.Lock()
        """Held by who changes it: a new owner and the last flush of the previous one must not overwrite each other."""
        try:
            self.position = file.load()
        except Damaged as damaged:
            why, where = damaged.args
            say(Code.POSITION_DAMAGED, f"{where}: {why}; the rule is mirrored again, and its content compared")
            self.position, self.was_damaged = file.empty().unknown(), True

    async def change(self, position: Position) -> None:
        """Replaces it, durably. Within `turn`.

        Raises:
            StopRule: it cannot be saved.
        """
        await in_thread(self.file.save, position)
        self.position = position
