"""The snapshots of one rule: taken, listed, opened and removed, and put in order after a crash.

    create:  note TAKING ─▶ replica at rest ─▶ store.create ─▶ note KEPT
    remove:  note REMOVING ─▶ store.remove ─▶ note that it is gone

Each note is durable before the next step. Whoever comes after a crash first removes what is not `KEPT`: so a snapshot
is whole or not there, wherever the crash was.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import NamedTuple

import attrs
import trio

from i2core.api import Code, I2Error, Line, StopRule, UsageError, in_thread
from i2core.api.snapshots import SnapshotStore
from i2core.api.tree import Tree
from i2core.config.model import SnapshotPlan
from i2core.config.words import bilingual
from i2core.posix.syscalls import sync_filesystem
from i2core.rule.backup.entry.snapshot_stores import Stores
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.backup.replica.rooted import open_roots
from i2core.rule.backup.replica.snapshot_file import CatalogFile
from i2core.snapshot.catalog import MOST, Catalog, Snapshot, State
from i2core.snapshot.moments import HistoryMoments
from i2core.wire.messages import SnapshotWish


class Listed(NamedTuple):
    """A snapshot as people see it."""

    snapshot: Snapshot
    is_there: bool | None
    """The store has all of it; None: the store cannot be asked."""
    used: int
    """Mounts, recoveries and others that read it now."""
    bytes: int | None
    """As `SnapshotStore.space`; None: not asked for, or nobody can tell."""


class RuleSnapshots:
    """The snapshots of the rule that a replica belongs to. One change at a time; readers wait for nobody.

    More methods than a class should have: taking and removing go in steps, each noted in the one catalog, since a crash
    may come between any two."""

    def __init__(
        self,
        replica: Replica,
        file: CatalogFile,
        stores: Stores,
        *,
        mirrors: Callable[[], bool],
        now_ns: Callable[[], int],
    ) -> None:
        """`mirrors`: whether a mirror of the rule runs. `now_ns`: the clock of this node."""
        self._replica, self._file, self._stores = replica, file, stores
        self._mirrors, self._now_ns = mirrors, now_ns
        self._catalog: Catalog | None = None
        self._changing = trio.Lock()
        self._uses: Counter[int] = Counter()
        self._going: set[int] = set()
        """Those that are being removed: nobody opens them."""

    def is_of(self, replica: Replica) -> bool:
        """True when these are the snapshots of this object: a rule that was forgotten comes back as another one."""
        return self._replica is replica

    @property
    def plan(self) -> SnapshotPlan:
        """What the rule wants."""
        wish = self._replica.position.snapshot
        return SnapshotWish(**wish).plan() if wish else SnapshotPlan()

    @property
    def used(self) -> Collection[int]:
        """The numbers of those that somebody reads."""
        return set(self._uses)

    async def catalog(self) -> Catalog:
        """All that is noted.

        Raises:
            StopRule, LinkError: as `CatalogFile.load`.
        """
        if self._catalog is None:
            loaded = await in_thread(self._file.load)
            self._catalog = self._catalog or loaded
        return self._catalog

    async def begin_schedule(self) -> Catalog:
        """Notes when the schedule was first known; the catalog."""
        async with self._changing:
            catalog = await self.catalog()
            if not catalog.since_ns:
                await self._note(attrs.evolve(catalog, since_ns=self._now_ns()))
            return await self.catalog()

    async def settle(self) -> None:
        """Removes what a crash has left half taken or half removed. What cannot be removed now is logged, and tried
        again by the next change."""
        async with self._changing:
            await self._settle()

    async def tend(self) -> None:
        """Has the stores look after what they keep, those that need it.

        Raises:
            StopRule, LinkError: one cannot be opened or read.
        """
        for name in {each.store for each in (await self.catalog()).kept}:
            if self._stores.is_tended(name):
                async with self._stores.open(name) as store:
                    await store.tend()

    # ------------------------------------------------------------------------------------------- taking

    async def create(self, tag: str = "", slot_ns: int | None = None) -> Snapshot:
        """Takes one, between two batches. `slot_ns`: as in `Snapshot`.

        Cancellation: there is none then.

        Raises:
            UsageError: the rule has no replica here, no store works for it, or there are as many as may be (3573).
            StopRule: it cannot be taken; there is no trace of it, or only one that the next change removes.
        """
        self._refuse()
        async with self._changing:
            await self._settle()
            catalog = await self.catalog()
            if len(catalog.snapshots) >= MOST:
                raise UsageError(
                    bilingual(f"the rule has {MOST} snapshots, and may have no more", f"该规则已有 {MOST} 个快照"),
                    code=Code.SNAPSHOT_CREATE,
                    obj=self._replica.rule,
                    next_step=bilingual("remove one: i2 snapshot remove", "请删除一个：i2 snapshot remove"),
                )
            async with self._stores.history() as moments:
                driver = await self._stores.choose(self.plan.store)
                name = f"{catalog.next_ident}-{secrets.token_hex(8)}"
                entry = Snapshot(ident=catalog.next_ident, name=name, store=driver, tag=tag, slot_ns=slot_ns)
                async with self._stores.open(driver) as store:
                    return await self._taken(entry, store, moments)

    def _refuse(self) -> None:
        """Raises UsageError where no snapshot can be taken now."""
        replica = self._replica
        if not replica.position.targets:
            raise UsageError(bilingual("the rule has no target here", "该规则在此处没有目标"), obj=replica.rule)
        if replica.deletes.reason:  # the replica rests in the midst of a batch, and nobody knows for how long
            raise UsageError(
                bilingual("a mass delete waits for its release", "有大批删除正等待放行"),
                code=Code.SNAPSHOT_CREATE,
                obj=replica.rule,
                next_step=bilingual(
                    f"release it (i2 rule release {replica.peer}/{replica.rule}), or mirror the rule again",
                    f"放行（i2 rule release {replica.peer}/{replica.rule}），或重新镜像该规则",
                ),
            )

    async def _taken(self, entry: Snapshot, store: SnapshotStore, moments: HistoryMoments | None) -> Snapshot:
        await self._note((await self.catalog()).with_entry(entry))
        try:
            entry = await self._take(entry, store, moments)
            await self._note((await self.catalog()).with_entry(entry))
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._clear(entry, store)
            raise
        return entry

    async def _take(self, entry: Snapshot, store: SnapshotStore, moments: HistoryMoments | None) -> Snapshot:
        replica = self._replica
        async with replica.at_rest():
            mirroring = self._mirrors() or replica.position.anew
            seq = replica.progress.applied_seq
            moment, changed_ns = None, None
            if moments is not None:
                moment, changed_ns = moments.seq, await in_thread(moments.changed_ns)
            taken_ns = self._now_ns()
            await self._create(entry.name, store)
        return attrs.evolve(
            entry,
            state=State.KEPT,
            taken_ns=taken_ns,
            seq=seq,
            moment=moment,
            changed_ns=changed_ns,
            mirroring=mirroring,
        )

    async def _create(self, name: str, store: SnapshotStore) -> None:
        with ExitStack() as stack:
            roots = await in_thread(stack.enter_context, open_roots(self._replica.position, self._stores.allowed))
            await in_thread(_sync, roots)  # what an earlier process has applied may not be on disk
            await store.create(name, roots)

    # ------------------------------------------------------------------------------------------- removing

    async def remove(self, ident: int) -> bool:
        """Removes one; False when it was removed before.

        Raises:
            UsageError: there was never one of this number, or somebody reads it (3551).
            StopRule: something of it stays; the next change tries again.
        """
        async with self._changing:
            catalog = await self.catalog()
            entry = catalog.get(ident)
            if entry is None:
                if not 0 < ident < catalog.next_ident:
                    raise _unknown(ident)
                return False
            if self._uses[ident]:
                raise UsageError(
                    bilingual("somebody reads it: a mount or a recovery", "正在被挂载或恢复任务读取"),
                    code=Code.SNAPSHOT_REMOVE,
                    obj=str(ident),
                    next_step=bilingual("end that first: see i2 task list", "请先结束该任务：参见 i2 task list"),
                )
            self._going.add(ident)
            try:
                await self._remove(entry)
            finally:
                self._going.discard(ident)
            return True

    async def _remove(self, entry: Snapshot) -> None:
        try:
            await self._note((await self.catalog()).with_entry(attrs.evolve(entry, state=State.REMOVING)))
        except StopRule as error:
            if error.code is not Code.REPLICA_FULL:  # on a full disk, removing is what frees room
                raise
        async with self._stores.open(entry.store) as store:
            await store.remove(entry.name)
        await self._note((await self.catalog()).without(entry.ident))

    async def _settle(self) -> None:
        for entry in (await self.catalog()).unsettled:
            try:
                async with self._stores.open(entry.store) as store:
                    await self._clear(entry, store)
            except I2Error as error:
                self._say_left(entry, error)

    async def _clear(self, entry: Snapshot, store: SnapshotStore) -> None:
        try:
            await store.remove(entry.name)
            await self._note((await self.catalog()).without(entry.ident))
        except I2Error as error:
            self._say_left(entry, error)

    # ------------------------------------------------------------------------------------------- reading

    async def listed(self, *, space: bool = False) -> list[Listed]:
        """All, oldest first. With `space`, the room of each is measured, which may read all of its names."""
        found: dict[int, Listed] = {}
        catalog = await self.catalog()
        for name in {each.store for each in catalog.snapshots}:
            entries = [each for each in catalog.snapshots if each.store == name]
            try:
                async with self._stores.open(name) as store:
                    there = await store.names()
                    for each in entries:
                        is_there = each.state is State.KEPT and each.name in there
                        room = await _space(store, each.name) if space and is_there else None
                        found[each.ident] = Listed(each, is_there, self._uses[each.ident], room)
            except I2Error:
                found |= {each.ident: Listed(each, None, self._uses[each.ident], None) for each in entries}
        return [listed for _, listed in sorted(found.items())]

    async def get(self, ident: int) -> Snapshot:
        """A snapshot that can be read.

        Raises:
            UsageError: there is none of this number, or not any more.
        """
        entry = (await self.catalog()).get(ident)
        if entry is None or entry.state is not State.KEPT or ident in self._going:
            raise _unknown(ident)
        return entry

    @asynccontextmanager
    async def open(self, ident: int) -> AsyncIterator[tuple[Snapshot, Sequence[Tree]]]:
        """A snapshot with its trees, by root. Within the block it is not removed.

        Raises:
            UsageError: as `get`; or the store does not have it (any more).
            StopRule: it cannot be opened.
        """
        entry = await self.get(ident)
        self._uses[ident] += 1
        try:
            async with self._stores.open(entry.store) as store, store.open(entry.name) as trees:
                yield entry, trees
        finally:
            self._uses[ident] -= 1
            if not self._uses[ident]:
                del self._uses[ident]

    # ------------------------------------------------------------------------------------------- notes

    async def _note(self, catalog: Catalog) -> None:
        await in_thread(self._file.save, catalog)
        self._catalog = catalog

    def tell(self, error: I2Error) -> None:
        """Logs why an automatic snapshot was not taken, or not removed."""
        obj = error.obj or f"{self._replica.peer}/{self._replica.rule}"
        code = error.code if error.code is not Code.USAGE else Code.SNAPSHOT_CREATE
        line = Line(f"snapshot: {error}", code=code, obj=obj, cause=error.cause, next_step=error.next_step)
        self._replica.say(code, line)

    def _say_left(self, entry: Snapshot, error: I2Error) -> None:
        cause = f"snapshot {entry.ident} was not completed, and what is left of it cannot be removed: {error.cause}"
        line = Line(cause, code=Code.SNAPSHOT_REMOVE, obj=f"{self._replica.rule} {entry.ident}", cause=cause)
        self._replica.say(Code.SNAPSHOT_REMOVE, line)


def _sync(fds: Sequence[int]) -> None:
    for device, fd in {os.fstat(fd).st_dev: fd for fd in fds}.items():
        try:
            sync_filesystem(fd)
        except OSError as error:
            raise StopRule(
                f"the replica cannot be made durable: {error.strerror}", code=Code.SNAPSHOT_CREATE, obj=str(device)
            ) from error


async def _space(store: SnapshotStore, name: str) -> int | None:
    try:
        return await store.space(name)
    except I2Error:
        return None


def _unknown(ident: int) -> UsageError:
    return UsageError(
        bilingual("there is no such snapshot", "没有该快照"),
        code=Code.SNAPSHOT_MOUNT,
        obj=str(ident),
        next_step=bilingual("see i2 snapshot list", "参见 i2 snapshot list"),
    )
