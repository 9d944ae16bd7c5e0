"""The snapshots of all replicas of a backup role, and the task that takes the automatic ones."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from i2core.api import SESSION_CHANNELS, Code, I2Error, StopRule, UsageError, in_thread
from i2core.api.journal import JournalFull
from i2core.config.model import BackupRole, SnapshotPlan, WhenFull
from i2core.config.words import bilingual
from i2core.drivers.select import Drivers
from i2core.history.moments.zones import zone_or_local
from i2core.rule.backup.entry.opening import SessionOpening
from i2core.rule.backup.entry.owners import Key
from i2core.rule.backup.entry.replicas import Replicas
from i2core.rule.backup.entry.rule_snapshots import RuleSnapshots
from i2core.rule.backup.entry.snapshot_stores import Stores
from i2core.rule.backup.replica.position import Position
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.backup.replica.snapshot_file import CatalogFile
from i2core.snapshot.schedule import is_due, next_slot, slot, surplus

if TYPE_CHECKING:
    from i2core.history.record.history import History

LOOK_S = 60.0
"""A schedule that is new or has changed is noticed after so many seconds at the latest."""
AGAIN_S = 10.0
"""While a mirror runs, what is due waits, and is looked at so often."""


class Snapshots:
    """The snapshots of one role."""

    def __init__(
        self,
        replicas: Replicas,
        opening: SessionOpening,
        role: BackupRole,
        drivers: Drivers,
        directory: Path,
    ) -> None:
        """`directory`: where the catalogs are kept."""
        self._replicas, self._opening, self._role, self._drivers = replicas, opening, role, drivers
        self._directory = directory
        self.now_ns: Callable[[], int] = time.time_ns
        """This node's clock; a test sets its own before the first use."""
        self._rules: dict[Key, RuleSnapshots] = {}
        self._busy: set[Key] = set()
        """An automatic snapshot is being taken."""
        self._tried: dict[Key, int] = {}
        """The slot for which one was taken last, or could not be."""

    @contextmanager
    def of(self, key: Key) -> Iterator[RuleSnapshots]:
        """Those of one rule, within the block."""
        replica = self._replicas.keep(self._replicas.of(key))
        known = self._rules.get(key)
        if known is None or not known.is_of(replica):
            known = self._rules[key] = self._made(replica)
        try:
            yield known
        finally:
            self._replicas.rest(replica)

    def used(self, key: Key) -> bool:
        """True while somebody reads a snapshot of this rule."""
        return key in self._rules and bool(self._rules[key].used)

    def _made(self, replica: Replica) -> RuleSnapshots:
        key = (replica.peer, replica.rule)
        stores = Stores(
            replica,
            self._role,
            self._drivers,
            secret=self._opening.own_secret,
            history=partial(self._history, replica),
        )
        return RuleSnapshots(
            replica,
            CatalogFile(self._directory, *key),
            stores,
            mirrors=lambda: self._replicas.mirrors(key),
            now_ns=self.now_ns,
        )

    @asynccontextmanager
    async def _history(self, replica: Replica) -> AsyncIterator[History | None]:
        key = (replica.peer, replica.rule)
        end_sessions = partial(self._replicas.end_sessions, key, SESSION_CHANNELS)
        async with replica.recording.used(self._opening.open_history(replica), end_sessions) as history:
            yield history

    # ------------------------------------------------------------------------------------------ the schedule

    async def run(self) -> None:
        """Puts in order what a crash has left, then takes snapshots as they become due, without end. What fails is
        logged."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._settle)
            nursery.start_soon(self._tend)
            while True:  # what becomes due is a matter of clocks and of other nodes
                pause_s = await self.run_once(nursery)
                await trio.sleep(pause_s)

    async def _settle(self) -> None:
        for position in await self._listed():
            with self.of((position.peer, position.rule)) as rule:
                try:
                    await rule.settle()
                except I2Error as error:
                    self._tell(position, error)

    async def _tend(self) -> None:
        while True:
            await trio.sleep(LOOK_S)
            await self.tend_once()

    async def tend_once(self) -> None:
        """Has the stores of all rules look after what they keep. What fails is logged."""
        for position in await self._listed():
            with self.of((position.peer, position.rule)) as rule:
                try:
                    await rule.tend()
                except I2Error as error:
                    self._tell(position, error)

    async def _listed(self) -> list[Position]:
        """The rules that ever had a snapshot; the others are left alone, and not read into memory."""
        known = await self._known()
        return [each for each in known if CatalogFile(self._directory, each.peer, each.rule).exists()]

    async def _known(self) -> list[Position]:
        try:
            return [position for position in await in_thread(self._replicas.known) if position.targets]
        except I2Error:  # descriptors are exhausted, or the disk fails: sessions tell
            return []

    async def run_once(self, nursery: trio.Nursery) -> float:
        """Begins the snapshots that are due; seconds to the next look."""
        pause_s = LOOK_S
        for position in await self._known():
            if position.snapshot.get("every_s") is None:
                continue
            key = (position.peer, position.rule)
            with self.of(key) as rule:
                try:
                    pause_s = min(pause_s, await self._look(key, position, rule, nursery))
                except I2Error as error:
                    self._tell(position, error)
        return pause_s

    async def _look(self, key: Key, position: Position, rule: RuleSnapshots, nursery: trio.Nursery) -> float:
        catalog, plan = await rule.begin_schedule(), rule.plan
        if plan.every_s is None:
            return LOOK_S
        zone, now_ns = zone_or_local(position.zone), self.now_ns()
        current = slot(plan, zone, catalog.since_ns, now_ns)
        if current is not None and is_due(current, catalog.kept) and self._tried.get(key) != current:
            if self._replicas.mirrors(key) or position.anew:
                return AGAIN_S
            if key not in self._busy:
                self._busy.add(key)
                self._tried[key] = current
                nursery.start_soon(self._take, key, position, current)
        return max((next_slot(plan, zone, catalog.since_ns, now_ns) - now_ns) / 1e9, 0.0) + 0.001

    async def _take(self, key: Key, position: Position, current: int) -> None:
        try:
            with self.of(key) as rule:
                await _take_and_rotate(rule, rule.plan, current)
        except I2Error as error:
            self._tell(position, error)
        finally:
            self._busy.discard(key)

    def _tell(self, position: Position, error: I2Error) -> None:
        with self.of((position.peer, position.rule)) as rule:
            rule.tell(error)


async def _take_and_rotate(rule: RuleSnapshots, plan: SnapshotPlan, current: int) -> None:
    """Takes one; afterwards the oldest that are too many go. So there are never fewer than promised."""
    rotates = plan.when_full is WhenFull.ROTATE
    kept = (await rule.catalog()).kept
    if not rotates and surplus(kept, plan.keep - 1, ()):
        raise UsageError(
            bilingual(
                f"the rule has its {plan.keep} automatic snapshots, and is to take no more then",
                f"该规则已有 {plan.keep} 个自动快照，按配置不再创建",
            ),
            code=Code.SNAPSHOT_CREATE,
        )
    oldest = surplus(kept, 0, rule.used)[:1] if rotates else []
    try:
        await rule.create(slot_ns=current)
    except StopRule as error:
        if not oldest or not (isinstance(error, JournalFull) or error.code is Code.REPLICA_FULL):
            raise
        await rule.remove(oldest[0].ident)
        await rule.create(slot_ns=current)
    if rotates:
        for each in surplus((await rule.catalog()).kept, plan.keep, rule.used):
            await rule.remove(each.ident)
