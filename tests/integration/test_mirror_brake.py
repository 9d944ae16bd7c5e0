"""A mass delete is held on the backup node until somebody releases it; ordinary deletes are not."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import attrs
import pytest

from i2core.api import Change, Code, Lost, Op, Place, StopRule
from i2core.config.model import Brake, OrphanAction, Orphans
from i2core.rule.life.status import RuleStatus, State
from i2core.testing.memory_disk import MemoryDisk
from i2core.testing.memory_sink import memory_sink
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until

DELETE = Orphans(action=OrphanAction.DELETE)
FILES = 1200


def fill(nodes: Nodes, count: int) -> list[Path]:
    """Creates files on the source, in one directory."""
    above = nodes.source / "dir"
    above.mkdir()
    paths = [above / f"{number:04}" for number in range(count)]
    for path in paths:
        path.touch()
    return paths


def left(disk: MemoryDisk, nodes: Nodes) -> int:
    """The files in the replica's directory."""
    root = disk.roots[bytes(nodes.target)]
    return len(root.entries[b"dir"].entries) if b"dir" in root.entries else 0


def tell_removed(nodes: Nodes, paths: list[Path]) -> None:
    """Removes the files, and reports it."""
    for path in paths:
        path.unlink()
    places = [Place(0, bytes(path.relative_to(nodes.source))) for path in paths]
    nodes.capture.tell(*(Change(Op.REMOVE, place) for place in places))


def held(nodes: Nodes) -> bool:
    """True when the backup node waits for a release."""
    return any(status.held for status in nodes.service.statuses())


async def test_orphans_of_a_mirror_are_held_and_released(tmp_path: Path) -> None:
    disk = MemoryDisk()
    async with open_nodes(tmp_path, memory_sink(disk), sink="memory") as nodes:
        paths = fill(nodes, FILES)
        await nodes.run()
        for path in paths[100:]:
            path.unlink()

        async def release() -> None:
            await until(lambda: held(nodes))
            assert left(disk, nodes) == FILES
            assert await nodes.service.release("data1")

        nodes.nursery.start_soon(release)
        status = await nodes.run(nodes.rule(orphans=DELETE))
        assert left(disk, nodes) == 100
        assert not held(nodes)
        assert not status.held
        assert Code.MASS_DELETE_HELD in nodes.codes()


@pytest.mark.parametrize("share", [0.5, 1.0])
async def test_live_deletes_are_held_beyond_the_share(tmp_path: Path, share: float) -> None:
    disk = MemoryDisk()
    async with open_nodes(tmp_path, memory_sink(disk), sink="memory") as nodes:
        paths = fill(nodes, FILES)
        async with nodes.running(nodes.rule(brake=Brake(share=share))) as status:
            tell_removed(nodes, paths[:1100])
            if share == 1.0:
                await until(lambda: left(disk, nodes) == 100)
                assert Code.MASS_DELETE_HELD not in nodes.codes()
                return
            await until(lambda: status.held)
            assert status.as_json()["state"] == "abnormal"
            assert left(disk, nodes) >= FILES / 2, "only removals that keep within the share passed before"
            assert await nodes.service.release("data1")
            await until(lambda: left(disk, nodes) == 100 and not status.held)
            assert status.state is State.REPLICATING
            assert not await nodes.service.release("data1")


async def test_deletes_below_the_share_pass(tmp_path: Path) -> None:
    disk = MemoryDisk()
    async with open_nodes(tmp_path, memory_sink(disk), sink="memory") as nodes:
        paths = fill(nodes, 2100)
        async with nodes.running():
            tell_removed(nodes, paths[:1040])
            await until(lambda: left(disk, nodes) == 1060)
        assert Code.MASS_DELETE_HELD not in nodes.codes()


async def test_a_small_share_counts_all_remaining_files(tmp_path: Path) -> None:
    disk = MemoryDisk()
    async with open_nodes(tmp_path, memory_sink(disk), sink="memory") as nodes:
        paths = fill(nodes, 400)
        async with nodes.running(nodes.rule(brake=Brake(share=0.1, least=10))):
            tell_removed(nodes, paths[:30])
            await until(lambda: left(disk, nodes) == 370)
        assert Code.MASS_DELETE_HELD not in nodes.codes()


async def test_changed_limits_apply_from_the_next_session_on(tmp_path: Path) -> None:
    disk = MemoryDisk()
    async with open_nodes(tmp_path, memory_sink(disk), sink="memory") as nodes:
        paths = fill(nodes, 40)
        await nodes.run()
        async with nodes.running(nodes.rule(brake=Brake(least=10))) as status:
            tell_removed(nodes, paths[:30])
            await until(lambda: status.held)
            assert left(disk, nodes) >= 20, "only removals that keep within the share passed before"


async def test_a_held_delete_that_was_not_intended_is_dropped_by_a_compare(tmp_path: Path) -> None:
    disk = MemoryDisk()
    async with open_nodes(tmp_path, memory_sink(disk), sink="memory") as nodes:
        nodes.cache_dir = tmp_path / "cache"
        paths = fill(nodes, 40)
        brake = Brake(least=10, share=0.2)
        async with nodes.running(nodes.rule(brake=brake)) as status:
            tell_removed(nodes, paths)
            await until(lambda: status.held)
            kept = left(disk, nodes)
            assert kept >= 32
        for path in paths:
            path.touch()
        async with nodes.running(nodes.rule(brake=brake), compare=True) as status:
            assert not status.held
            assert left(disk, nodes) == 40
        assert not any(line.startswith("released") for _, _, line in nodes.said)


@pytest.mark.parametrize("what", ["gone", "emptied"])
async def test_the_loss_or_emptying_of_a_source_root_is_held(tmp_path: Path, what: str) -> None:
    """However few files there are: perhaps the source's disk is not mounted."""
    disk = MemoryDisk()
    async with open_nodes(tmp_path, memory_sink(disk), sink="memory") as nodes:
        for name in ("a", "b"):
            (nodes.source / name).write_text(name)
        async with nodes.running() as status:
            if what == "gone":
                shutil.rmtree(nodes.source)
                nodes.capture.tell(Change(Op.REMOVE, Place(0, b"")))
            else:
                tell_removed(nodes, [nodes.source / "a", nodes.source / "b"])
            await until(lambda: status.held)
            assert set(disk.roots[bytes(nodes.target)].entries) == {b"a", b"b"}
            assert await nodes.service.release("data1")
            await until(lambda: not disk.roots[bytes(nodes.target)].entries)


async def test_an_emptied_root_is_held_in_a_mirror(tmp_path: Path) -> None:
    disk = MemoryDisk()
    async with open_nodes(tmp_path, memory_sink(disk), sink="memory") as nodes:
        for name in ("a", "b"):
            (nodes.source / name).write_text(name)
        await nodes.run(keep=False)
        for name in ("a", "b"):
            (nodes.source / name).unlink()
        async with nodes.starting(nodes.rule(orphans=DELETE)) as status:
            await until(lambda: status.held)
            assert set(disk.roots[bytes(nodes.target)].entries) == {b"a", b"b"}


async def test_deletes_are_held_again_after_the_link_broke(tmp_path: Path) -> None:
    disk = MemoryDisk()
    async with open_nodes(tmp_path, memory_sink(disk), sink="memory") as nodes:
        for name in ("a", "b"):
            (nodes.source / name).write_text(name)
        await nodes.run(keep=False)
        for name in ("a", "b"):
            (nodes.source / name).unlink()
        async with nodes.starting(nodes.rule(orphans=DELETE)) as status:
            await until(lambda: status.held)
            nodes.wire.net.cut()
            await until(lambda: status.code is Code.NETWORK)
            await until(lambda: status.held and status.code is Code.MASS_DELETE_HELD and held(nodes))
            assert set(disk.roots[bytes(nodes.target)].entries) == {b"a", b"b"}
            assert await nodes.service.release("data1")
            await until(lambda: status.mirrored)
            assert not disk.roots[bytes(nodes.target)].entries


@pytest.mark.parametrize(("stands", "files"), [("another", 3), ("the same", 3), ("the same", FILES), ("none", 3)])
async def test_a_root_that_is_gone_ends_the_rule_when_that_was_released(
    stands: str, files: int, tmp_path: Path
) -> None:
    """A directory that is there later, another one or the same, is compared at the next start."""
    async with open_nodes(tmp_path) as nodes:
        fill(nodes, files)
        with pytest.raises(StopRule) as stopped:
            async with nodes.running() as status:
                nodes.source.rename(tmp_path / "away")
                nodes.capture.tell(Change(Op.REMOVE, Place(0, b"")))
                await until(lambda: status.held)
                assert "data1 on bak" in status.next_step
                if stands == "another":
                    nodes.source.mkdir(0o700)
                    (nodes.source / "new").touch()
                elif stands == "the same":
                    (tmp_path / "away").rename(nodes.source)
                if stands != "none":
                    nodes.capture.tell(Lost(Place(0, b""), "the root is there again"))
                assert await nodes.service.release("data1")
                await until(lambda: False)
        assert (stopped.value.code, stopped.value.obj) == (Code.SOURCE_GONE, str(nodes.source))
        assert not any(nodes.target.iterdir())
        if stands == "none":
            (tmp_path / "away").rename(nodes.source)
        async with nodes.running():
            assert compare_trees(nodes.source, nodes.target) == []


async def test_the_backup_nodes_own_brake_is_a_floor(tmp_path: Path) -> None:
    disk = MemoryDisk()
    async with open_nodes(tmp_path, memory_sink(disk), sink="memory") as nodes:
        nodes.role = attrs.evolve(nodes.role, brake=Brake(share=0.5, least=10))
        nodes.boot()
        paths = fill(nodes, 40)
        async with nodes.running(nodes.rule(brake=Brake(share=1.0))) as status:
            tell_removed(nodes, paths[:30])
            await until(lambda: status.held)
            assert left(disk, nodes) >= 20


def _passed(status: RuleStatus, disk: MemoryDisk, nodes: Nodes, files: int) -> bool:
    return status.held or left(disk, nodes) == files


async def test_a_removal_in_many_steps_is_held_with_half_of_it_left(tmp_path: Path) -> None:
    disk = MemoryDisk()
    async with open_nodes(tmp_path, memory_sink(disk), sink="memory") as nodes:
        paths = fill(nodes, 100)
        async with nodes.running(nodes.rule(brake=Brake(least=10, window_s=0.001))) as status:
            for start in range(0, 55, 5):
                assert not status.held
                tell_removed(nodes, paths[start : start + 5])
                await until(partial(_passed, status, disk, nodes, 95 - start))
            assert status.held
            assert left(disk, nodes) == 50
            assert await nodes.service.release("data1")
            await until(lambda: not status.held and left(disk, nodes) == 45)


async def test_a_root_of_few_files_in_directories_is_held_when_it_is_emptied(tmp_path: Path) -> None:
    disk = MemoryDisk()
    async with open_nodes(tmp_path, memory_sink(disk), sink="memory") as nodes:
        paths = fill(nodes, 400)
        async with nodes.running() as status:
            for path in paths:
                path.unlink()
            (nodes.source / "dir").rmdir()
            places = [Place(0, bytes(path.relative_to(nodes.source))) for path in [*paths, nodes.source / "dir"]]
            nodes.capture.tell(*(Change(Op.REMOVE, place) for place in places))
            await until(lambda: status.held)
            assert left(disk, nodes) >= 80


@pytest.mark.parametrize("what", ["file", "symlink", "large file"])
@pytest.mark.parametrize("live", [True, False])
async def test_a_directory_that_a_file_replaces_passes_the_brake_as_well(what: str, live: bool, tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes, 400)
        (nodes.source / "other").touch()
        target = Path(os.fsdecode(nodes.target))
        if not live:
            await nodes.run(keep=False)

        def replace() -> None:
            shutil.rmtree(nodes.source / "dir")
            if what == "symlink":
                (nodes.source / "dir").symlink_to("other")
            else:
                (nodes.source / "dir").write_bytes(b"x" * (6 << 20 if what == "large file" else 3))

        if not live:
            replace()
        async with nodes.running() if live else nodes.starting(nodes.rule(orphans=DELETE)) as status:
            if live:
                replace()
                nodes.capture.tell(Change(Op.REMOVE, Place(0, b"dir")), Change(Op.CREATE, Place(0, b"dir")))
            await until(lambda: status.held)
            assert len(list((target / "dir").iterdir())) == 400
            assert await nodes.service.release("data1")
            await until(lambda: not status.held and not (target / "dir").is_dir() and os.path.lexists(target / "dir"))
            await until(lambda: compare_trees(nodes.source, target) == [])


async def test_a_small_spool_may_be_emptied_again_and_again(tmp_path: Path) -> None:
    disk = MemoryDisk()
    async with open_nodes(tmp_path, memory_sink(disk), sink="memory") as nodes:
        above = nodes.source / "dir"
        above.mkdir()
        async with nodes.running() as status:
            for turn in range(4):
                messages = [above / f"{turn}-{number}" for number in range(30)]
                for message in messages:
                    message.touch()
                nodes.capture.tell(*(Change(Op.CREATE, Place(0, b"dir/" + os.fsencode(m.name))) for m in messages))
                await until(lambda: left(disk, nodes) == 30)
                tell_removed(nodes, messages)
                await until(lambda: left(disk, nodes) == 0 or status.held)
                assert not status.held
