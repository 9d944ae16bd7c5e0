"""Opens a replica for its history, without a session: with the checks and locks of the sink (`sink.open_sink`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from i2_sink_fs.claiming import claimed_roots
from i2_sink_fs.outcome import stop
from i2_sink_fs.present.replica import FsReplica
from i2_sink_fs.roots import Roots
from i2core.api import SinkContext, in_thread
from i2core.posix.errnos import PASSING
from i2core.posix.patience import patiently


@asynccontextmanager
async def open_replica(context: SinkContext) -> AsyncIterator[FsReplica]:
    """The replica with these roots, for as long as the block runs; a sink of this process may be open as well.

    Raises:
        UsageError: a root is not beneath an allowed directory, or cannot be opened without following a symlink.
        StopRule: a root is not the known one (3621), another process writes there (3572), or a store cannot be opened.
    """
    async with claimed_roots(context) as roots:
        replica = await patiently(partial(_opened, context, roots), context.say, roots.all_shown)
        try:
            yield replica
        finally:
            with trio.CancelScope(shield=True):
                await in_thread(replica.close)


def _opened(context: SinkContext, roots: Roots) -> FsReplica:
    try:
        return FsReplica(context, roots)
    except OSError as error:
        if error.errno in PASSING:
            raise
        raise stop(error, roots.all_shown()) from error
