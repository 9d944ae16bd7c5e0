"""Opens the stores of one rule's snapshots, and its history for those that keep them there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from i2core.api import DriverKind, in_thread
from i2core.api.snapshots import Moments, SnapshotContext, SnapshotGone, SnapshotStore
from i2core.config.model import BackupRole
from i2core.config.options import structure_options
from i2core.config.words import bilingual
from i2core.posix.path_text import as_path
from i2core.rule.backup.replica.replica import Replica
from i2core.snapshot.choice import choose_store
from i2core.snapshot.moments import HistoryMoments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from i2core.drivers.select import Drivers
    from i2core.history.record.history import History


class Stores:
    """The stores that are installed, as the rule of one replica uses them."""

    def __init__(
        self,
        replica: Replica,
        role: BackupRole,
        drivers: Drivers,
        *,
        secret: Callable[[], bytes],
        history: Callable[[], AbstractAsyncContextManager[History | None]],
    ) -> None:
        """`history`: opens that of the replica; None: it has none. `secret`: as in `SnapshotContext`."""
        self._replica, self._role, self._drivers = replica, role, drivers
        self._secret, self._history = secret, history

    @property
    def allowed(self) -> Sequence[bytes]:
        """The directories beneath which replicas lie."""
        return self._role.allow_roots

    @asynccontextmanager
    async def history(self) -> AsyncIterator[HistoryMoments | None]:
        """The history of the replica, open within the block; None: it has none.

        Raises:
            StopRule: it cannot be opened.
        """
        async with self._history() as history:
            yield None if history is None else HistoryMoments(history, self._roots())

    async def choose(self, wanted: str) -> str:
        """The driver for a new snapshot. `wanted`: as `SnapshotPlan.store`.

        Raises:
            UsageError: none works here.
        """
        context = await in_thread(self._context)
        spec = await in_thread(partial(choose_store, self._drivers, wanted, self._role.snapshot), context)
        return spec.name

    def is_tended(self, name: str) -> bool:
        """True when the store of this driver is to be looked after; False as well where it is not installed."""
        spec = self._drivers.drivers(DriverKind.SNAPSHOT_STORE).get(name)
        return spec is not None and spec.tended

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[SnapshotStore]:
        """The store of this driver.

        Raises:
            UsageError: it is not installed (any more).
            StopRule: it cannot be opened.
        """
        spec = self._drivers.driver(DriverKind.SNAPSHOT_STORE, name)
        choice = self._role.snapshot
        config = structure_options(spec, choice.options if choice.name == name else {})
        async with spec.open(config, await in_thread(self._context)) as store:
            yield store

    def _context(self) -> SnapshotContext:
        replica = self._replica
        return SnapshotContext(
            roots=self._roots(),
            allowed=self._role.allow_roots,
            secret=self._secret(),
            flags=replica.position.flags,
            moments=self._moments if replica.recording.begun else None,
            say=lambda line: replica.say(None, line),
        )

    def _roots(self) -> tuple[bytes, ...]:
        return tuple(as_path(target) for target in self._replica.position.targets)

    @asynccontextmanager
    async def _moments(self) -> AsyncIterator[Moments]:
        async with self.history() as moments:
            if moments is None:
                raise SnapshotGone(bilingual("the history of the replica has ended", "副本的历史已结束"))
            yield moments
