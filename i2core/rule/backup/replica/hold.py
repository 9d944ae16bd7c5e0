"""A mass delete that waits until somebody releases it."""

from __future__ import annotations

from collections.abc import Callable

import trio

from i2core.api import Code
from i2core.rule.backup.replica.brake import Brake


class MassDeleteHold:
    """The brake of one replica, and whether it holds records now."""

    def __init__(self, peer: str, say: Callable[[Code | None, str], None]) -> None:
        self.brake = Brake()
        self.reason = ""
        """Why records are held; empty: none are."""
        self._peer = peer
        self._say = say
        self._released = trio.Event()

    async def wait(self, reason: str) -> None:
        """Holds records, until somebody releases them."""
        self.reason = reason
        self._released = trio.Event()
        self._say(Code.MASS_DELETE_HELD, f"held: {reason}; nothing more of {self._peer} is applied until released")
        try:
            await self._released.wait()
        finally:
            self.reason = ""
        self.brake.release(trio.current_time())
        self._say(None, "released")

    def release(self) -> bool:
        """Lets held records through; False when none are held."""
        if not self.reason:
            return False
        self._released.set()
        return True
