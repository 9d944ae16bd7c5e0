"""Names the driver to core; what it needs is imported only when it is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from i2core.api import DriverKind, DriverSpec, NoConfig, Sink, SinkContext, hookimpl

if TYPE_CHECKING:
    from i2core.api.present import Replica


@asynccontextmanager
async def open_fs(config: NoConfig, context: SinkContext) -> AsyncIterator[Sink]:
    """The sink on the local file system; makes roots that are missing.

    Raises:
        UsageError: a root is not beneath an allowed directory, or cannot be opened without following a symlink.
    """
    from i2_sink_fs.sink import open_sink

    async with open_sink(context) as sink:
        yield sink


@asynccontextmanager
async def open_fs_replica(config: NoConfig, context: SinkContext) -> AsyncIterator[Replica]:
    """The replica of such a sink, for its history.

    Raises:
        UsageError, StopRule: as `open_fs`.
    """
    from i2_sink_fs.replica import open_replica

    async with open_replica(context) as replica:
        yield replica


@hookimpl
def i2_sinks() -> Iterable[DriverSpec]:
    """The driver ``"fs"``."""
    return (
        DriverSpec(
            kind=DriverKind.SINK,
            name="fs",
            summary="plain files, usable as they are",
            config=NoConfig,
            open=open_fs,
            replica=open_fs_replica,
        ),
    )
