"""Snapshots of a replica between two nodes: taken between batches, listed, read, removed, and whole or gone after a
crash."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import trio

from i2core.api import Code, Lost, NoConfig, Place, StopRule, UsageError
from i2core.api.snapshots import SnapshotContext
from i2core.config.model import Brake, CdpRetention, DriverChoice, SnapshotPlan, WhenFull
from i2core.history.read.tree import PastTree
from i2core.rule.backup.entry.rule_snapshots import RuleSnapshots
from i2core.rule.backup.replica.snapshot_file import CatalogFile
from i2core.rule.life.status import RuleStatus
from i2core.snapshot.catalog import Catalog, Snapshot, State
from i2core.snapshot.driver import JOURNAL
from i2core.testing.memory_snapshots import Copies, MemorySnapshots
from tests.pictures import differing, past_picture, picture

from .pair import Nodes, open_nodes, until

KEY = ("local", "data1")


async def settled(nodes: Nodes, status: RuleStatus) -> None:
    """All changes are on the replica."""
    nodes.capture.tell(Lost(Place(0, b""), "look at all"))
    await until(lambda: not nodes.capture.unread())
    since = status.settled_ns
    await until(lambda: status.settled_ns > since)
    assert not differing(picture(nodes.target), picture(nodes.source))


async def read(rule: RuleSnapshots, ident: int) -> dict[str, Any]:
    """All of a snapshot."""
    async with rule.open(ident) as (_, trees):
        found: dict[str, Any] = await trio.to_thread.run_sync(past_picture, cast(PastTree, trees[0]))
    return found


def plan(**changes: Any) -> SnapshotPlan:
    """By hand alone."""
    return SnapshotPlan(**changes)


@pytest.mark.parametrize("store", ["journal", "memory"])
async def test_a_snapshot_is_what_the_replica_was(store: str, tmp_path: Path) -> None:
    copies = Copies()
    async with open_nodes(tmp_path, JOURNAL, MemorySnapshots.spec(copies)) as nodes:
        (nodes.source / "file").write_text("first")
        rule = nodes.rule(cdp=CdpRetention(), brake=Brake(share=1.0), snapshot=plan(store=store))
        async with nodes.running(rule) as status:
            await settled(nodes, status)
            with nodes.service.snapshots.of(KEY) as snapshots:
                wanted = picture(nodes.source)
                first = await snapshots.create("before")
                (nodes.source / "file").write_text("second")
                (nodes.source / "new").mkdir()
                await settled(nodes, status)
                second = await snapshots.create()
                (nodes.source / "file").unlink()
                await settled(nodes, status)
                assert not differing(await read(snapshots, first.ident), wanted)
        assert (first.ident, first.tag, first.store, first.state) == (1, "before", store, State.KEPT)
        assert first.seq < second.seq
        assert first.moment is not None and first.changed_ns is not None
        nodes.boot()
        with nodes.service.snapshots.of(KEY) as snapshots:
            assert not differing(await read(snapshots, 1), wanted)
            found = await snapshots.listed(space=True)
            assert [(each.snapshot.ident, each.is_there, each.used) for each in found] == [(1, True, 0), (2, True, 0)]
            assert await snapshots.remove(1)
            assert not await snapshots.remove(1)
            with pytest.raises(UsageError):
                await snapshots.remove(3)
            with pytest.raises(UsageError):
                await read(snapshots, 1)
            assert [each.snapshot.ident for each in await snapshots.listed()] == [2]


async def test_without_a_history_the_store_says_what_is_needed(tmp_path: Path) -> None:
    async with open_nodes(tmp_path, JOURNAL) as nodes:
        async with nodes.running(nodes.rule()) as status:
            await settled(nodes, status)
        with nodes.service.snapshots.of(KEY) as snapshots:
            with pytest.raises(UsageError, match="has no history") as refused:
                await snapshots.create()
            assert refused.value.code is Code.SNAPSHOT_CREATE
            assert "cdp = {}" in refused.value.next_step
            assert await snapshots.listed() == []


async def test_a_rule_without_history_has_snapshots_in_other_stores(tmp_path: Path) -> None:
    async with open_nodes(tmp_path, JOURNAL, MemorySnapshots.spec()) as nodes:
        (nodes.source / "file").write_text("first")
        async with nodes.running(nodes.rule()) as status:
            await settled(nodes, status)
            with nodes.service.snapshots.of(KEY) as snapshots:
                taken = await snapshots.create()
        assert (taken.store, taken.moment, taken.changed_ns) == ("memory", None, None)
        assert taken.seq > 0 and taken.taken_ns > 0 and not taken.mirroring


async def test_one_that_is_read_is_not_removed(tmp_path: Path) -> None:
    async with open_nodes(tmp_path, MemorySnapshots.spec()) as nodes:
        async with nodes.running(nodes.rule()) as status:
            await settled(nodes, status)
        with nodes.service.snapshots.of(KEY) as snapshots:
            await snapshots.create()
            async with snapshots.open(1):
                assert [each.used for each in await snapshots.listed()] == [1]
                with pytest.raises(UsageError, match="somebody reads it") as refused:
                    await snapshots.remove(1)
                assert refused.value.code is Code.SNAPSHOT_REMOVE
            assert await snapshots.remove(1)


async def test_while_a_mass_delete_is_held_nothing_is_waited_for(tmp_path: Path) -> None:
    async with open_nodes(tmp_path, MemorySnapshots.spec()) as nodes:
        for number in range(200):
            (nodes.source / str(number)).touch()
        async with nodes.running(nodes.rule(brake=Brake(share=0.1, least=10))) as status:
            await settled(nodes, status)
            for path in nodes.source.iterdir():
                path.unlink()
            nodes.capture.tell(Lost(Place(0, b""), "look at all"))
            await until(lambda: Code.MASS_DELETE_HELD in nodes.codes())
            with nodes.service.snapshots.of(KEY) as snapshots:
                with pytest.raises(UsageError, match="waits for its release") as refused:
                    await snapshots.create()
                assert refused.value.code is Code.SNAPSHOT_CREATE
                assert await snapshots.listed() == []


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", range(6))
@pytest.mark.parametrize("store", ["journal", "memory"])
async def test_a_kill_leaves_all_of_a_snapshot_or_nothing(
    store: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after each durable step of taking and removing."""
    copies = Copies()
    async with open_nodes(tmp_path, JOURNAL, MemorySnapshots.spec(copies)) as nodes:
        (nodes.source / "file").write_text("first")
        rule = nodes.rule(cdp=CdpRetention(), brake=Brake(share=1.0), snapshot=plan(store=store))
        async with nodes.running(rule) as status:
            await settled(nodes, status)
            wanted = picture(nodes.source)
            saves = 0
            real = CatalogFile.save

            def save(file: CatalogFile, catalog: Catalog) -> None:
                nonlocal saves
                saves += 1
                if saves > step // 2 + 1:
                    raise Killed
                if saves == step // 2 + 1:
                    if step % 2:
                        real(file, catalog)
                    raise Killed
                real(file, catalog)

            async def dead(*_: object) -> None:
                raise Killed

            monkeypatch.setattr(CatalogFile, "save", save)
            monkeypatch.setattr(RuleSnapshots, "_clear", dead)
            with nodes.service.snapshots.of(KEY) as snapshots, pytest.raises(Killed):
                await snapshots.create()
                await snapshots.remove(1)
        monkeypatch.undo()
        nodes.boot()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nodes.service.snapshots.run)
            with nodes.service.snapshots.of(KEY) as snapshots:
                while (await snapshots.catalog()).unsettled:  # noqa: ASYNC110 (a catalog has no event)
                    await trio.sleep(0.005)
                found = await snapshots.listed()
                assert all(each.is_there and each.snapshot.state is State.KEPT for each in found)
                for each in found:
                    assert not differing(await read(snapshots, each.snapshot.ident), wanted)
                kept = {each.snapshot.name for each in found}
                if store == "memory":
                    assert set(copies.disks) == kept
                else:
                    async with nodes.service.history("data1") as history:
                        assert {mark.name for mark in history.journal.marks} == kept
            nursery.cancel_scope.cancel()


async def test_a_store_that_needs_it_is_looked_after(tmp_path: Path) -> None:
    tended: list[str] = []

    class Tended(MemorySnapshots):
        async def tend(self) -> None:
            tended.extend(await self.names())

    specs = []
    for kind, name, is_tended in ((Tended, "tended", True), (MemorySnapshots, "plain", False)):
        spec = kind.spec(Copies())
        specs.append(attrs.evolve(spec, name=name, tended=is_tended))
    async with open_nodes(tmp_path, *specs) as nodes:
        for store in ("tended", "plain"):
            async with nodes.running(nodes.rule(snapshot=plan(store=store))) as status:
                await settled(nodes, status)
            with nodes.service.snapshots.of(KEY) as snapshots:
                await snapshots.create()
        await nodes.service.snapshots.tend_once()
        with nodes.service.snapshots.of(KEY) as snapshots:
            first = await snapshots.get(1)
        assert tended == [first.name]


class Full(MemorySnapshots):
    """Has room for so many."""

    room = 2

    async def create(self, name: str, roots: Sequence[int]) -> None:
        if len(self._copies.disks) >= self.room:
            raise StopRule("no room", code=Code.REPLICA_FULL)
        await super().create(name, roots)


class Clock:
    """The clock of the backup node."""

    def __init__(self) -> None:
        self.now_ns = int(datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC).timestamp()) * 10**9

    def __call__(self) -> int:
        return self.now_ns

    def forward(self, seconds: float) -> None:
        """Time passes."""
        self.now_ns += round(seconds * 1e9)


async def scheduled(nodes: Nodes, clock: Clock, slots: int, every_s: float = 300.0) -> list[Snapshot]:
    """What there is after so many slots."""
    snapshots = nodes.service.snapshots
    snapshots.now_ns = clock
    for number in range(slots + 1):
        async with trio.open_nursery() as nursery:
            await snapshots.run_once(nursery)
        if number < slots:
            clock.forward(every_s)
    with snapshots.of(KEY) as rule:
        return [each.snapshot for each in await rule.listed()]


@pytest.mark.parametrize("when_full", WhenFull)
async def test_the_schedule_keeps_so_many(when_full: WhenFull, tmp_path: Path) -> None:
    clock = Clock()
    async with open_nodes(tmp_path, MemorySnapshots.spec()) as nodes:
        rule = nodes.rule(snapshot=plan(every_s=300.0, keep=3, when_full=when_full))
        async with nodes.running(rule) as status:
            await settled(nodes, status)
        nodes.service.snapshots.now_ns = clock
        with nodes.service.snapshots.of(KEY) as by_hand:
            await by_hand.create("mine")
        found = await scheduled(nodes, clock, 5)
        rotated = when_full is WhenFull.ROTATE
        assert [each.ident for each in found] == ([1, 4, 5, 6] if rotated else [1, 2, 3, 4])
        assert [each.is_automatic for each in found] == [False, True, True, True]
        assert (Code.SNAPSHOT_CREATE in nodes.codes()) is not rotated


async def test_what_was_missed_is_one_snapshot(tmp_path: Path) -> None:
    clock = Clock()
    async with open_nodes(tmp_path, MemorySnapshots.spec()) as nodes:
        rule = nodes.rule(snapshot=plan(every_s=300.0, start=datetime.datetime(2026, 1, 1)))
        async with nodes.running(rule) as status:
            await settled(nodes, status)
        assert len(await scheduled(nodes, clock, 0)) == 1
        clock.forward(86400)
        nodes.boot()
        assert len(await scheduled(nodes, clock, 0)) == 2
        clock.forward(365 * 86400)  # a clock that jumps
        assert len(await scheduled(nodes, clock, 0)) == 3
        clock.forward(-365 * 86400 + 300)
        assert len(await scheduled(nodes, clock, 0)) == 4
        assert len(await scheduled(nodes, clock, 2)) == 6


async def test_a_full_store_gives_up_the_oldest(tmp_path: Path) -> None:
    clock, copies = Clock(), Copies()

    def full() -> Any:
        spec = MemorySnapshots.spec(copies)

        from contextlib import asynccontextmanager

        @asynccontextmanager
        async def open_full(config: NoConfig, context: SnapshotContext) -> Any:
            yield Full(copies)

        return attrs.evolve(spec, open=open_full)

    async with open_nodes(tmp_path, full()) as nodes:
        async with nodes.running(nodes.rule(snapshot=plan(every_s=300.0))) as status:
            await settled(nodes, status)
        found = await scheduled(nodes, clock, 4)
        assert [each.ident for each in found if each.state is State.KEPT] == [5, 6] or len(copies.disks) == 2
        assert len(found) == 2


async def test_another_directory_is_not_taken_for_the_replica(tmp_path: Path) -> None:
    async with open_nodes(tmp_path, MemorySnapshots.spec()) as nodes:
        (nodes.source / "file").write_text("first")
        async with nodes.running(nodes.rule()) as status:
            await settled(nodes, status)
        nodes.boot()
        nodes.target.rename(nodes.target.with_name("away"))
        with nodes.service.snapshots.of(KEY) as snapshots:
            with pytest.raises(StopRule) as gone:
                await snapshots.create()
            assert gone.value.code is Code.REPLICA_GONE
            nodes.target.mkdir()
            with pytest.raises(StopRule) as gone:
                await snapshots.create()
            assert gone.value.code is Code.REPLICA_GONE
            assert await snapshots.listed() == []


async def test_a_damaged_list_is_told_and_nothing_is_removed(tmp_path: Path) -> None:
    copies = Copies()
    async with open_nodes(tmp_path, MemorySnapshots.spec(copies)) as nodes:
        async with nodes.running(nodes.rule()) as status:
            await settled(nodes, status)
        with nodes.service.snapshots.of(KEY) as snapshots:
            await snapshots.create()
        (file,) = (nodes.home / "state" / "snapshots").iterdir()
        file.write_bytes(file.read_bytes().replace(b'"kept"', b'"KEPT"'))
        nodes.boot()
        with nodes.service.snapshots.of(KEY) as snapshots:
            for ask in (snapshots.listed, snapshots.create):
                with pytest.raises(StopRule, match="cannot be read"):
                    await ask()
        assert len(copies.disks) == 1


async def test_the_driver_of_the_node_is_taken_where_the_rule_names_none(tmp_path: Path) -> None:
    async with open_nodes(tmp_path, JOURNAL, MemorySnapshots.spec()) as nodes:
        nodes.role = attrs.evolve(nodes.role, snapshot=DriverChoice(name="memory"))
        nodes.boot()
        async with nodes.running(nodes.rule(cdp=CdpRetention(), brake=Brake(share=1.0))) as status:
            await settled(nodes, status)
            with nodes.service.snapshots.of(KEY) as snapshots:
                assert (await snapshots.create()).store == "memory"
