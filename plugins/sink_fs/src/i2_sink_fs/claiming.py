"""Opens the roots of a replica, locked against other processes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from i2_sink_fs.allowed import find_allowed
from i2_sink_fs.roots import Roots
from i2core.api import SinkContext
from i2core.posix.errnos import PASSING
from i2core.posix.patience import patiently
from i2core.posix.target_locks import Claim, Taken, TargetLocks

PATIENCE_S = 5.0
"""How long to wait for a process that is about to end: it first finishes the batch that it applies."""
AGAIN_S = 0.1


@asynccontextmanager
async def claimed_roots(context: SinkContext) -> AsyncIterator[Roots]:
    """The roots; those that are missing are made. Within the block, no other process can open them.

    Raises:
        UsageError: a root is not beneath an allowed directory, or cannot be opened without following a symlink.
        StopRule: a root is not the known one (3621), or another process writes there (3572).
    """

    def shown() -> str:
        return ", ".join(map(os.fsdecode, context.roots))

    find_roots = partial(Roots, context.roots, context.allowed, context.known)
    locks: TargetLocks = context.shared.setdefault("target locks", TargetLocks())
    claims: list[Claim] = []
    try:
        for path in context.roots:
            claims.append(await _claimed(partial(_way, locks, path, context), path, context))
        roots = await patiently(find_roots, context.say, shown)
        for index, path in enumerate(roots.paths):
            claims.append(await _claimed(partial(_root, locks, roots, index, context), path, context))
        yield roots
    finally:
        for claim in claims:
            locks.release(claim)


def _way(locks: TargetLocks, path: bytes, context: SinkContext) -> Claim:
    """The locks on the way to a root: nothing is made in what another process writes."""
    base, _ = find_allowed(path, context.allowed)
    try:
        return locks.claim_way(path, context.say) if os.path.isdir(base) else Claim((), ())
    except OSError as error:
        if error.errno in PASSING:
            raise
        return Claim((), ())  # `Roots` tells what is wrong with the path


def _root(locks: TargetLocks, roots: Roots, index: int, context: SinkContext) -> Claim:
    fd = roots.open(index)
    try:
        return locks.claim(fd, context.say)
    finally:
        os.close(fd)


async def _claimed(take: Callable[[], Claim], path: bytes, context: SinkContext) -> Claim:
    """Locks against other processes. Waits up to `PATIENCE_S` for one that is about to end.

    Raises:
        StopRule: another process writes there (3572).
    """
    patience = trio.current_time() + PATIENCE_S
    while True:
        try:
            return await patiently(take, context.say, partial(os.fsdecode, path))
        except Taken as taken:
            if trio.current_time() > patience:
                raise taken.refuses(os.fsdecode(path)) from taken
        await trio.sleep(AGAIN_S)
