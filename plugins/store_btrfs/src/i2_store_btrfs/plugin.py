"""Names the driver to core; what it needs is imported only when it is used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from i2core.api import DriverKind, DriverSpec, NoConfig, Probe, hookimpl, in_thread

if TYPE_CHECKING:
    from i2core.api.snapshots import SnapshotContext, SnapshotStore


def probe(context: SnapshotContext) -> Probe:
    """Works where each directory of the replica is a subvolume of btrfs, and something can lie beside it."""
    from i2_store_btrfs.fitness import fits

    return fits(context)


@asynccontextmanager
async def open_btrfs(config: NoConfig, context: SnapshotContext) -> AsyncIterator[SnapshotStore]:
    """The store; nothing is made before the first snapshot.

    Raises:
        StopRule: a directory of the replica is gone, or has no place beside it any more.
    """
    from i2_store_btrfs.store import BtrfsSnapshots

    yield await in_thread(BtrfsSnapshots, context)


@hookimpl
def i2_snapshot_stores() -> Iterable[DriverSpec]:
    """The driver ``"btrfs"``."""
    return (
        DriverSpec(
            kind=DriverKind.SNAPSHOT_STORE,
            name="btrfs",
            summary="read-only subvolumes beside the replica, on btrfs",
            config=NoConfig,
            open=open_btrfs,
            rank=40,
            probe=probe,
        ),
    )
