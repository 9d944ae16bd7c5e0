"""Small changes of a journal whose disk is full."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from i2core.api.journal import Journal, JournalFull


async def with_reserve(journal: Journal, work: Callable[[], Awaitable[None]]) -> None:
    """Changes the journal; on a full disk with the room of the reserve.

    Raises:
        JournalFull: there is no room even so.
    """
    try:
        await work()
    except JournalFull:
        await journal.use_reserve()
        await work()
