"""Roots are directories, not names: the known state belongs to the directories that were written or read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from i2core.api import Change, Code, Op, Place, StopRule
from i2core.config.model import Brake, OrphanAction, Orphans
from i2core.rule.backup.service import forget_positions, has_positions
from i2core.rule.backup.session import durability
from i2core.rule.life.status import Received
from i2core.rule.sealed_text import sealed, unsealed
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until


def _same(nodes: Nodes) -> bool:
    return compare_trees(nodes.source, nodes.target, owners=os.geteuid() == 0) == []


async def _mirrored(nodes: Nodes) -> None:
    """A first run with some files and an orderly end."""
    for name in "abc":
        (nodes.source / name).mkdir()
        (nodes.source / name / "file").write_text(name * 100)
    async with nodes.running() as status:
        await until(lambda: status.settled_ns > 0)
    assert _same(nodes)


@pytest.mark.parametrize("equal_before", [False, True])
@pytest.mark.parametrize("remakes", [False, True])
async def test_a_replica_that_was_removed_is_filled_again(tmp_path: Path, remakes: bool, equal_before: bool) -> None:
    """Also when nothing was ever sent, since the replica existed before the rule."""
    async with open_nodes(tmp_path) as nodes:
        if equal_before:
            (nodes.source / "file").write_text("x")
            shutil.copytree(nodes.source, nodes.target)
        await _mirrored(nodes)
        nodes.boot()
        shutil.rmtree(nodes.target)
        if remakes:
            nodes.target.mkdir()
        nodes.said.clear()
        async with nodes.running() as status:
            await until(lambda: Code.REPLICA_EXCHANGED in nodes.codes())
            await until(lambda: Code.MIRROR_DONE in nodes.codes() and status.settled_ns > 0)
            assert _same(nodes)
        nodes.boot()
        nodes.said.clear()
        async with nodes.running() as status:
            await until(lambda: status.settled_ns > 0)
        assert Code.MIRROR_DONE not in nodes.codes()


async def test_a_replica_whose_disk_is_not_there_stops_the_rule(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        await _mirrored(nodes)
        nodes.boot()
        above = nodes.target.parent
        above.rename(tmp_path / "disk")
        above.mkdir()
        for _ in range(2):
            with pytest.raises(StopRule) as stopped:
                await nodes.run(once=False)
            assert stopped.value.code is Code.REPLICA_GONE
        assert os.listdir(above) == []
        above.rmdir()
        (tmp_path / "disk").rename(above)
        nodes.said.clear()
        (nodes.source / "a" / "later").write_text("later")
        async with nodes.running():
            await until(lambda: _same(nodes))
        assert Code.MIRROR_DONE not in nodes.codes()


async def test_nothing_is_durable_in_a_replica_that_is_moved_away(tmp_path: Path) -> None:
    """The rule stops, and the next mirror sends what waited."""
    async with open_nodes(tmp_path) as nodes:
        await _mirrored(nodes)
        with pytest.raises(StopRule) as stopped:
            async with nodes.running() as status:
                await until(lambda: status.settled_ns > 0)
                nodes.target.rename(tmp_path / "backup" / "moved")
                (nodes.source / "a" / "file").write_text("new")
                durable = status.durable_seq
                nodes.capture.tell(Change(Op.MODIFY, Place(0, b"a/file")))
                await until(lambda: False)
        assert stopped.value.code is Code.REPLICA_GONE
        assert status.durable_seq == durable
        async with nodes.running():
            await until(lambda: _same(nodes))


async def test_an_idle_rule_notices_that_its_replica_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "ROOTS_S", 0.05)
    async with open_nodes(tmp_path) as nodes:
        with pytest.raises(StopRule) as stopped:
            async with nodes.running() as status:
                await until(lambda: status.settled_ns > 0)
                nodes.target.rename(tmp_path / "backup" / "moved")
                await until(lambda: False)
        assert stopped.value.code is Code.REPLICA_GONE


async def test_a_damaged_position_costs_a_mirror(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        await _mirrored(nodes)
        (position,) = (tmp_path / "state" / "positions").glob("*.json")
        position.write_bytes(b"\0" * 200)
        nodes.boot()
        (nodes.target / "a" / "file").write_text("n" * 100)  # of which nothing is known any more
        os.utime(nodes.target / "a" / "file", ns=((nodes.source / "a" / "file").stat().st_mtime_ns,) * 2)
        async with nodes.running():
            await until(lambda: Code.POSITION_DAMAGED in nodes.codes())
            await until(lambda: _same(nodes))


async def test_refused_greetings_leave_nothing_behind(tmp_path: Path) -> None:
    """No open files, no files on disk, and no rule that is shown as received."""
    async with open_nodes(tmp_path) as nodes:
        await _mirrored(nodes)
        # The session ends a moment later, and then what its sink keeps is one file.
        await until(lambda: all(each.state is Received.WAITING for each in nodes.service.statuses()))
        kept, fds = sorted(os.listdir(tmp_path / "state" / "positions")), len(os.listdir("/proc/self/fd"))
        for number in range(5):
            with pytest.raises(StopRule):
                await nodes.run(nodes.rule(name=f"other{number}"), keep=False)
        assert sorted(os.listdir(tmp_path / "state" / "positions")) == kept
        assert [status.name for status in nodes.service.statuses()] == ["data1"]
        await until(lambda: len(os.listdir("/proc/self/fd")) <= fds)


async def test_another_replica_may_be_intended(tmp_path: Path) -> None:
    """A person confirms it by forgetting the rule on the backup node."""
    async with open_nodes(tmp_path) as nodes:
        await _mirrored(nodes)
        nodes.boot()
        nodes.target.parent.rename(tmp_path / "disk")
        nodes.target.parent.mkdir()
        with pytest.raises(StopRule):
            await nodes.run(once=False)
        forget_positions(tmp_path / "state")
        assert not has_positions(tmp_path / "state")
        nodes.boot()
        async with nodes.running():
            await until(lambda: _same(nodes))


# ------------------------------------------------------------------------------------------ sources


def moved_into_its_child(nodes: Nodes) -> None:
    """The previous tree is moved into a new directory that has its name."""
    nodes.source.rename(nodes.home / "was")
    nodes.source.mkdir()
    (nodes.home / "was").rename(nodes.source / "old")


def moved_deeper(nodes: Nodes) -> None:
    nodes.source.rename(nodes.home / "was")
    (nodes.source / "x" / "y").mkdir(parents=True)
    (nodes.home / "was").rename(nodes.source / "x" / "y" / "old")


def its_child_in_its_place(nodes: Nodes) -> None:
    (nodes.source / "a").rename(nodes.home / "child")
    shutil.rmtree(nodes.source)
    (nodes.home / "child").rename(nodes.source)


def made_again(nodes: Nodes) -> None:
    """Often with the inode number of the old one, which a directory beneath it may get as well."""
    shutil.rmtree(nodes.source)
    for number in range(20):
        (nodes.source / str(number)).mkdir(parents=True)
    (nodes.source / "5" / "file").write_text("made again")


def restored(nodes: Nodes) -> None:
    """The same files are in a new directory."""
    nodes.source.rename(nodes.home / "was")
    shutil.copytree(nodes.home / "was", nodes.source)


@pytest.mark.parametrize("action", [OrphanAction.DELETE, OrphanAction.KEEP])
@pytest.mark.parametrize("exchange", [moved_into_its_child, moved_deeper, its_child_in_its_place, made_again, restored])
async def test_a_source_that_is_another_directory_is_compared(
    tmp_path: Path, exchange: Callable[[Nodes], None], action: OrphanAction
) -> None:
    """It is reported, and changes are replicated as usual, also by the next run."""
    async with open_nodes(tmp_path) as nodes:
        rule = nodes.rule(orphans=Orphans(action=action), brake=Brake(share=1.0))
        for name in "abc":
            (nodes.source / name).mkdir()
            (nodes.source / name / "file").write_text(name)
        async with nodes.running(rule) as status:
            await until(lambda: status.settled_ns > 0)
        exchange(nodes)
        for turn in range(2):
            nodes.said.clear()
            async with nodes.running(rule) as status:
                await until(lambda status=status: status.settled_ns > 0)  # type: ignore[misc]
                assert (Code.SOURCE_EXCHANGED in nodes.codes()) == (turn == 0)
                (nodes.source / f"new{turn}").write_text("new")
                nodes.capture.tell(Change(Op.CREATE, Place(0, b"new%d" % turn)))
                await until(lambda turn=turn: (nodes.target / f"new{turn}").exists())  # type: ignore[misc]
                await until(lambda status=status: status.durable_seq == status.seq)  # type: ignore[misc]
            if action is OrphanAction.DELETE:
                assert _same(nodes)


@pytest.mark.parametrize("crashed", [False, True])
@pytest.mark.parametrize("remains", [False, True])
async def test_a_source_whose_disk_is_not_there_stops_the_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remains: bool, crashed: bool
) -> None:
    """Also after a crash of the system, which the catalog does not survive; and a person may confirm the directory."""
    async with open_nodes(tmp_path) as nodes:
        disk = tmp_path / "disk"
        disk.mkdir()
        nodes.source = disk / "source"
        nodes.source.mkdir()
        rule = nodes.rule(orphans=Orphans(action=OrphanAction.DELETE), brake=Brake(share=1.0))
        (nodes.source / "file").write_text("x")
        await nodes.run(rule, once=True)
        disk.rename(tmp_path / "away")
        nodes.source.mkdir(parents=True)
        if remains:
            (nodes.source / "NOT MOUNTED").write_text("")
        if crashed:
            for file in (tmp_path / "work").glob("*.catalog*"):
                file.unlink()
        for _ in range(2):
            with pytest.raises(StopRule) as stopped:
                await nodes.run(rule, once=False)
            assert (stopped.value.code, stopped.value.obj) == (Code.SOURCE_GONE, str(nodes.source))
        assert os.listdir(nodes.target) == ["file"]
        await nodes.run(rule, once=True, compare=True)
        assert _same(nodes)
        async with nodes.running(rule) as status:
            await until(lambda: status.settled_ns > 0)


@contextmanager
def bound(directory: Path, point: Path) -> Iterator[None]:
    """A bind mount of the directory at `point`."""
    subprocess.run(["mount", "--bind", directory, point], check=True)  # noqa: S603, S607
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", point], check=True)  # noqa: S603, S607


@pytest.mark.root
@pytest.mark.parametrize("missing", [False, True])
async def test_a_source_whose_bind_mount_comes_or_goes_stops_the_rule(tmp_path: Path, missing: bool) -> None:
    """The directory that it hides has the same device, and is in the same directory."""
    async with open_nodes(tmp_path) as nodes:
        other = tmp_path / "other"
        other.mkdir()
        rule = nodes.rule(orphans=Orphans(action=OrphanAction.DELETE), brake=Brake(share=1.0))
        ((other if missing else nodes.source) / "file").write_text("x")
        with bound(other, nodes.source) if missing else nullcontext():
            await nodes.run(rule, once=True)
        with nullcontext() if missing else bound(other, nodes.source), pytest.raises(StopRule) as stopped:
            await nodes.run(rule, once=False)
        assert stopped.value.code is Code.SOURCE_GONE
        assert os.listdir(nodes.target) == ["file"]
        with bound(other, nodes.source) if missing else nullcontext():
            await nodes.run(rule, once=True)
            assert _same(nodes)


async def test_a_source_under_another_device_number_is_compared(tmp_path: Path) -> None:
    """As after a reboot: the catalog identifies objects by device and inode."""
    async with open_nodes(tmp_path) as nodes:
        await _mirrored(nodes)
        (kept,) = (tmp_path / "work").glob("*.roots")
        [[standing, device]] = json.loads(unsealed(kept.read_bytes()))
        kept.write_bytes(sealed(json.dumps([[standing, device + 1]]).encode()))
        nodes.said.clear()
        async with nodes.running() as status:
            await until(lambda: status.settled_ns > 0)
        assert Code.MIRROR_DONE in nodes.codes()
        assert Code.SOURCE_EXCHANGED not in nodes.codes()


@pytest.mark.parametrize("damage", [None, b"", b"[[1, 2]]", b"\xff\x00", b'[["1 2 3", 4]]', b"[]"])
async def test_a_source_that_is_not_known_any_more_stops_the_rule(tmp_path: Path, damage: bytes | None) -> None:
    """What is there may be an empty mount point. A person may confirm the directory, which is then known again.
    `damage`: what the file of the identities holds; None: it is missing."""
    async with open_nodes(tmp_path) as nodes:
        await _mirrored(nodes)
        (kept,) = (tmp_path / "work").glob("*.roots")
        if damage is None:
            kept.unlink()
        else:
            kept.write_bytes(damage)
        nodes.source.rename(tmp_path / "not mounted")
        nodes.source.mkdir()
        rule = nodes.rule(orphans=Orphans(action=OrphanAction.DELETE), brake=Brake(share=1.0))
        for _ in range(2):
            nodes.said.clear()
            with pytest.raises(StopRule) as stopped:
                await nodes.run(rule, once=False)
            assert (stopped.value.code, stopped.value.obj) == (Code.SOURCE_GONE, str(nodes.source))
            assert "--compare" in stopped.value.next_step
            assert (Code.CATALOG_DAMAGED in nodes.codes()) == (damage is not None)
        assert sorted(os.listdir(nodes.target)) == ["a", "b", "c"]
        nodes.source.rmdir()
        (tmp_path / "not mounted").rename(nodes.source)
        await nodes.run(once=True, compare=True)
        async with nodes.running() as status:
            await until(lambda: status.settled_ns > 0)
        assert _same(nodes)


async def test_a_source_whose_first_mirror_was_lost_with_its_catalog_is_mirrored(tmp_path: Path) -> None:
    """Without catalog and identities, it is a new rule."""
    async with open_nodes(tmp_path) as nodes:
        await _mirrored(nodes)
        for file in (tmp_path / "work").iterdir():
            file.unlink()
        nodes.said.clear()
        async with nodes.running() as status:
            await until(lambda: status.settled_ns > 0)
        assert Code.MIRROR_DONE in nodes.codes()
