"""Names the store ``"journal"`` to the registry; what it needs is imported only when it is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from i2core.api import DriverKind, DriverSpec, NoConfig, Probe

if TYPE_CHECKING:
    from i2core.api.snapshots import SnapshotContext, SnapshotStore


def probe(context: SnapshotContext) -> Probe:
    """Works where there is a history."""
    if context.moments is None:
        return Probe(False, "the rule has no history (cdp), or its first mirror is not done")
    return Probe(True, "a moment of the history is kept")


@asynccontextmanager
async def open_journal_snapshots(config: NoConfig, context: SnapshotContext) -> AsyncIterator[SnapshotStore]:
    """The store, with the history open.

    Raises:
        StopRule: there is none, or it cannot be opened.
    """
    from i2core.snapshot.journal import open_store

    async with open_store(context) as store:
        yield store


JOURNAL = DriverSpec(
    kind=DriverKind.SNAPSHOT_STORE,
    name="journal",
    summary="Keeps a moment of the replica's history; on any file system",
    open=open_journal_snapshots,
    platforms=("linux", "darwin", "freebsd", "win32"),
    rank=20,
    probe=probe,
)
