"""Names the driver to core; what it needs is imported only when it is used."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from i2_store_lvm.config import LvmConfig
from i2core.api import DriverKind, DriverSpec, Probe, hookimpl

if TYPE_CHECKING:
    from i2core.api.snapshots import SnapshotContext, SnapshotStore


def probe(context: SnapshotContext) -> Probe:
    """Works for root, where each directory of the replica is on a logical volume with ext4 or xfs."""
    from i2_store_lvm.origins import Unfit, find_origins

    if os.geteuid() != 0:
        return Probe(False, "LVM needs root")
    try:
        find_origins(context.roots, LvmConfig())
    except Unfit as error:
        return Probe(False, str(error))
    return Probe(True, "the target is on a logical volume")


@asynccontextmanager
async def open_lvm(config: LvmConfig, context: SnapshotContext) -> AsyncIterator[SnapshotStore]:
    """The store; nothing is done before the first snapshot."""
    from i2_store_lvm.store import LvmSnapshots

    yield LvmSnapshots(config, context)


@hookimpl
def i2_snapshot_stores() -> Iterable[DriverSpec]:
    """The driver ``"lvm"``."""
    return (
        DriverSpec(
            kind=DriverKind.SNAPSHOT_STORE,
            name="lvm",
            summary="LVM snapshots of the volume that the replica is on",
            config=LvmConfig,
            open=open_lvm,
            rank=15,
            probe=probe,
            tended=True,
        ),
    )
