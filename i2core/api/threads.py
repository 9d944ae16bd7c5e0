"""Worker threads, shared fairly.

On the backup node each peer has threads of its own. So however much work one peer causes, the work of another peer and
of the daemon always finds a free thread. Everything that is done for a peer, by core or by a driver, calls `in_thread`:
which threads it may use belongs to the task, so no driver needs to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TypeVar

import trio

T = TypeVar("T")
_share: ContextVar[trio.CapacityLimiter | None] = ContextVar("_share", default=None)
"""The threads of the peer that this task works for; None: those that all other work has in common."""


@contextmanager
def own_threads(limiter: trio.CapacityLimiter) -> Iterator[None]:
    """Within the body, this task and the tasks that it starts use only these threads."""
    token = _share.set(limiter)
    try:
        yield
    finally:
        _share.reset(token)


async def in_thread(work: Callable[..., T], *args: object) -> T:
    """The result of `work(*args)`, which runs in a worker thread. A cancelled task waits for the end of the work, so
    long work calls `check_cancelled` from time to time."""
    return await trio.to_thread.run_sync(work, *args, limiter=_share.get())


def check_cancelled() -> None:
    """For long work within `in_thread`: ends it when nobody waits for its result any more.

    Raises:
        trio.Cancelled: the task was cancelled.
    """
    with suppress(RuntimeError):  # called without a task, for example by a test: nothing can be cancelled
        trio.from_thread.check_cancelled()
