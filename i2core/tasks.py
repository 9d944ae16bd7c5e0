"""Background tasks that fail like a plain call: they raise the most important error, not a group."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from i2core.api import I2Error, LinkError, PeerRefused


def leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The most important error of a group; of equally important ones, the first.

    Two tasks may fail at the same time. After a `LinkError` the caller reconnects and continues, so a broken link must
    not hide that a disk failed as well, or that a job failed. Cancellations are only consequences of other errors.
    """
    found: list[BaseException] = []
    todo: list[BaseException] = [group]
    while todo:
        error = todo.pop(0)
        if isinstance(error, BaseExceptionGroup):
            todo += error.exceptions
        else:
            found.append(error)
    return min(found, key=_rank)


def _rank(error: BaseException) -> int:
    """0 for the most important errors; a higher number is less important."""
    if isinstance(error, trio.Cancelled):
        return 4
    if isinstance(error, LinkError) and not isinstance(error, PeerRefused):
        return 3
    if isinstance(error, I2Error):
        return 2
    return 1 if isinstance(error, Exception) else 0


@asynccontextmanager
async def background() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks are cancelled when the body ends, and whose errors come out unwrapped."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error = leaf(group)
        raise error from error.__cause__


@asynccontextmanager
async def meanwhile(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Runs `work` beside the body, which waits at its end until both are done. An error of one cancels the other, and
    comes out unwrapped."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            yield
    except BaseExceptionGroup as group:
        error = leaf(group)
        raise error from error.__cause__
