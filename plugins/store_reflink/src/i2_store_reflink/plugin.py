"""Names the driver to core; what it needs is imported only when it is used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from i2core.api import DriverKind, DriverSpec, NoConfig, Probe, hookimpl, in_thread

if TYPE_CHECKING:
    from i2core.api.snapshots import SnapshotContext, SnapshotStore


def probe(context: SnapshotContext) -> Probe:
    """Works where each directory of the replica is on a file system that clones files, and something can lie beside
    it."""
    from i2_store_reflink.fitness import fits

    return fits(context)


@asynccontextmanager
async def open_reflink(config: NoConfig, context: SnapshotContext) -> AsyncIterator[SnapshotStore]:
    """The store; nothing is made before the first snapshot.

    Raises:
        StopRule: a directory of the replica is gone, or has no place beside it any more.
    """
    from i2_store_reflink.store import ReflinkSnapshots

    yield await in_thread(ReflinkSnapshots, context)


@hookimpl
def i2_snapshot_stores() -> Iterable[DriverSpec]:
    """The driver ``"reflink"``."""
    return (
        DriverSpec(
            kind=DriverKind.SNAPSHOT_STORE,
            name="reflink",
            summary="clones of all files beside the replica, on xfs and btrfs",
            config=NoConfig,
            open=open_reflink,
            rank=10,
            probe=probe,
        ),
    )
