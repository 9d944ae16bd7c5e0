"""A full disk on either side: the rule stops and reports where, no existing data are damaged, and when there is room
again a start by hand continues. Small real file systems."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from i2core.api import Change, Code, Op, Place, StopRule
from i2core.config.model import OrphanAction, Orphans
from i2core.rule.life.disk_full import own_disk
from i2core.rule.life.states import fault
from i2core.rule.life.status import RuleStatus
from i2core.testing.trees import compare_trees

from .pair import open_nodes, until

OLD = b"old" * 10_000
ROOM = 8 << 20
BALLAST = "ballast"


def run(*command: str | Path) -> None:
    """Runs to the end, which must be successful."""
    subprocess.run(command, check=True)  # noqa: S603


def append(path: Path, data: bytes) -> None:
    """Appends data."""
    with open(path, "ab") as file:
        file.write(data)


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of a few megabytes at `place`."""
    image = place.with_name(place.name + ".img")
    image.touch()
    os.truncate(image, ROOM)
    run("mkfs.ext4", "-q", "-m", "0", "-N", "512", image)
    place.mkdir(exist_ok=True)
    run("mount", "-o", "loop", image, place)
    try:
        (place / "lost+found").rmdir()
        yield place
    finally:
        run("umount", "-l", place)
        image.unlink()


def fill(place: Path, *, leave: int = 0) -> None:
    """Takes all space except `leave` bytes."""
    with open(place / BALLAST, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
        if leave:
            file.truncate(max(0, file.tell() - leave))
        os.fsync(file.fileno())


def make_room(place: Path) -> None:
    """Gives it back."""
    (place / BALLAST).unlink()


@pytest.mark.root
async def test_a_full_replica_stops_the_rule_and_damages_nothing(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        with small_disk(nodes.target.parent) as disk:
            (nodes.source / "kept").write_bytes(OLD)
            await nodes.run()
            fill(disk, leave=100_000)
            (nodes.source / "kept").write_bytes(os.urandom(900_000))
            (nodes.source / "new").write_bytes(os.urandom(900_000))
            status = RuleStatus(name="data1")
            with pytest.raises(StopRule) as stopped:
                await nodes.run(status=status)
            assert stopped.value.code is Code.REPLICA_FULL
            assert stopped.value.obj in (str(nodes.target / "kept"), str(nodes.target / "new"))
            assert stopped.value.next_step
            assert (nodes.target / "kept").read_bytes() == OLD
            assert sorted(os.listdir(nodes.target)) == ["kept"]
            make_room(disk)
            await nodes.run()
            assert compare_trees(nodes.source, nodes.target) == []


@pytest.mark.root
async def test_a_replica_that_fills_up_while_replicating(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        with small_disk(nodes.target.parent) as disk:
            (nodes.source / "log").write_bytes(OLD)
            (nodes.source / "text").write_bytes(OLD)
            with pytest.raises(StopRule) as stopped:
                async with nodes.running():
                    fill(disk)
                    # As editors do, and as servers do.
                    (nodes.source / "new").write_bytes(os.urandom(500_000))
                    (nodes.source / "new").replace(nodes.source / "text")
                    append(nodes.source / "log", os.urandom(500_000))
                    nodes.capture.tell(*(Change(Op.MODIFY, Place(0, name)) for name in (b"log", b"text")))
                    await until(lambda: False)
            assert stopped.value.code is Code.REPLICA_FULL
            assert stopped.value.obj in (str(nodes.target / "log"), str(nodes.target / "text"))
            assert (nodes.target / "text").read_bytes() == OLD
            assert (nodes.target / "log").read_bytes()[: len(OLD)] == OLD
            make_room(disk)
            await nodes.run()
            assert compare_trees(nodes.source, nodes.target) == []


@pytest.mark.root
async def test_room_that_is_made_on_the_source_counts(tmp_path: Path) -> None:
    """Waiting records are not sent first: they would only fill the disk again."""
    async with open_nodes(tmp_path) as nodes:
        nodes.cache_dir = tmp_path / "cache"
        with small_disk(nodes.target.parent):
            (nodes.source / "log").write_bytes(OLD)
            with pytest.raises(StopRule) as stopped:
                async with nodes.running():
                    (nodes.source / "huge").write_bytes(os.urandom(2 * ROOM))
                    nodes.capture.tell(Change(Op.CREATE, Place(0, b"huge")))
                    append(nodes.source / "log", OLD)
                    nodes.capture.tell(Change(Op.MODIFY, Place(0, b"log")))
                    await until(lambda: False)
            assert stopped.value.code is Code.REPLICA_FULL
            with pytest.raises(StopRule):
                async with nodes.running():
                    await until(lambda: False)
            (nodes.source / "huge").unlink()
            async with nodes.running():
                await until(lambda: compare_trees(nodes.source, nodes.target) == [])
            assert nodes.codes().count(Code.MIRROR_DONE) == 1


@pytest.mark.root
async def test_a_backup_node_that_has_no_room_for_its_own_notes(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        with small_disk(tmp_path / "state") as disk:
            (nodes.source / "file").write_bytes(OLD)
            fill(disk)
            with pytest.raises(StopRule) as stopped:
                await nodes.run()
            assert stopped.value.code is Code.REPLICA_FULL
            assert str(disk) in stopped.value.obj
            make_room(disk)
            await nodes.run()
            assert compare_trees(nodes.source, nodes.target) == []


@pytest.mark.root
@pytest.mark.parametrize("leave", [0, 200_000])
async def test_a_full_disk_on_the_work_node_stops_the_rule(leave: int, tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        with small_disk(tmp_path / "work") as disk:
            for number in range(1500):
                (nodes.source / f"{number:0200}").touch()
            fill(disk, leave=leave)
            with pytest.raises(StopRule) as stopped:
                await nodes.run()
            assert stopped.value.code is Code.WORK_FULL
            assert stopped.value.obj == str(disk)
            make_room(disk)
            await nodes.run()
            assert compare_trees(nodes.source, nodes.target) == []


def test_only_a_full_disk_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(StopRule) as stopped, own_disk(tmp_path):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    assert (stopped.value.code, stopped.value.obj) == (Code.WORK_FULL, str(tmp_path))
    assert fault(stopped.value.code).value == "work disk full"
    with pytest.raises(StopRule) as stopped, own_disk(None):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert stopped.value.obj
    with pytest.raises(PermissionError), own_disk(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(sqlite3.OperationalError, match="syntax"), own_disk(tmp_path):
        sqlite3.connect(":memory:").execute("not SQL")


@pytest.mark.root
async def test_a_lack_of_inodes_is_reported_as_such(tmp_path: Path) -> None:
    """There is space, but no inode for another file."""
    async with open_nodes(tmp_path) as nodes:
        with small_disk(nodes.target.parent) as disk:
            for number in range(600):
                (nodes.source / f"{number}").touch()
            with pytest.raises(StopRule) as stopped:
                await nodes.run()
            assert stopped.value.code is Code.REPLICA_NO_INODES
            assert "512 inodes" in stopped.value.cause
            assert stopped.value.obj.startswith(str(disk))
            for number in range(300):
                (nodes.source / f"{number}").unlink()
            await nodes.run(nodes.rule(orphans=Orphans(action=OrphanAction.DELETE)))
            assert compare_trees(nodes.source, nodes.target) == []


@pytest.mark.root
@pytest.mark.parametrize("directories", [("", ""), ("a", "z"), ("z", "a")], ids=["beside", "behind", "before"])
async def test_what_the_source_removed_makes_room(tmp_path: Path, directories: tuple[str, str]) -> None:
    """In the same directory, and in one that the mirror reaches before, or long after, the new files."""
    new, old = directories
    async with open_nodes(tmp_path) as nodes:
        with small_disk(nodes.target.parent):
            for directory in directories:
                (nodes.source / directory).mkdir(exist_ok=True)
            for number in range(5):
                (nodes.source / old / f"old{number}").write_bytes(os.urandom(1_000_000))
            deleting = nodes.rule(orphans=Orphans(action=OrphanAction.DELETE))
            await nodes.run(deleting)
            for number in range(4):
                (nodes.source / old / f"old{number}").unlink()
                (nodes.source / new / f"new{number}").write_bytes(os.urandom(1_000_000))
            status = await nodes.run(deleting)
            assert compare_trees(nodes.source, nodes.target) == []
            assert status.durable_seq == status.seq
            assert status.listed_files == 5


@pytest.mark.root
@pytest.mark.parametrize("became", ["file", "fifo", "directory"])
async def test_what_became_an_object_of_another_type_makes_room(tmp_path: Path, became: str) -> None:
    """Its name comes after those of the new files, and is no orphan."""
    async with open_nodes(tmp_path) as nodes:
        with small_disk(nodes.target.parent):
            old = nodes.source / "z"
            if became == "directory":
                old.write_bytes(os.urandom(4_000_000))
            else:
                (old / "deep").mkdir(parents=True)
                for number in range(4):
                    (old / f"deep/{number}").write_bytes(os.urandom(1_000_000))
            deleting = nodes.rule(orphans=Orphans(action=OrphanAction.DELETE))
            await nodes.run(deleting)
            old.rename(tmp_path / "old")
            if became == "directory":
                old.mkdir()
            elif became == "fifo":
                os.mkfifo(old)
            else:
                old.write_text("small")
            for number in range(4):
                (nodes.source / f"new{number}").write_bytes(os.urandom(1_000_000))
            await nodes.run(deleting)
            assert compare_trees(nodes.source, nodes.target) == []


@pytest.mark.root
@pytest.mark.parametrize(
    ("action", "told"),
    [
        (OrphanAction.KEEP, "what the source does not have stays"),
        (OrphanAction.DELETE, "removed"),
        (OrphanAction.MOVE, "moved"),
    ],
)
async def test_what_became_shorter_makes_room(tmp_path: Path, action: OrphanAction, told: str) -> None:
    """And the log tells what happens to files that the source does not have."""
    async with open_nodes(tmp_path) as nodes:
        with small_disk(nodes.target.parent) as disk:
            to = os.fsencode(disk / "orphans") if action is OrphanAction.MOVE else None
            rule = nodes.rule(orphans=Orphans(action=action, to=to))
            (nodes.source / "zlog").write_bytes(os.urandom(5_000_000))
            await nodes.run(rule)
            os.truncate(nodes.source / "zlog", 100_000)
            for number in range(4):
                (nodes.source / f"new{number}").write_bytes(os.urandom(1_000_000))
            await nodes.run(rule)
            assert compare_trees(nodes.source, nodes.target) == []
        (line,) = {line for _, code, line in nodes.said if code is Code.REPLICA_FULL and "starts again" in line}
        assert told in line


@pytest.mark.root
async def test_a_full_replica_reports_which_disk_and_how_much(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        with small_disk(nodes.target.parent):
            status = RuleStatus(name="data1")
            for number in range(9):
                (nodes.source / f"new{number}").write_bytes(os.urandom(1_000_000))
            with pytest.raises(StopRule) as stopped:
                await nodes.run(status=status)
            assert stopped.value.code is Code.REPLICA_FULL
            assert "MB are free" in stopped.value.cause
            assert "1 MB more do not fit" in stopped.value.cause
            assert status.durable_seq <= status.seq
