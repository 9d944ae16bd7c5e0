"""Background tasks that fail like a plain call: the first real error comes out, not a group of one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


def leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that matters in a group: the first that is not a cancellation, errors before interrupts."""
    found: list[BaseException] = []
    todo: list[BaseException] = [group]
    while todo:
        error = todo.pop(0)
        if isinstance(error, BaseExceptionGroup):
            todo += error.exceptions
        else:
            found.append(error)
    real = [error for error in found if not isinstance(error, trio.Cancelled)]
    return next((e for e in real if not isinstance(e, Exception)), real[0] if real else found[0])


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
