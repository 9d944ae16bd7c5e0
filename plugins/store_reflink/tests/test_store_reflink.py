"""Clones on real file systems: the contract, a full disk, a kill at any step, and what is refused."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from i2_store_reflink.plugin import i2_snapshot_stores
from i2_store_reflink.store import ReflinkSnapshots

from i2core.api import Code, NoConfig, StopRule
from i2core.api.snapshots import SnapshotContext
from i2core.posix import beside_snapshots
from i2core.posix.beside import Beside
from i2core.testing.snapshot_store import Trial, check_snapshot_store, seen
from i2core.testing.trees import compare_trees

if TYPE_CHECKING:
    from conftest import Mount

pytestmark = pytest.mark.root
(SPEC,) = i2_snapshot_stores()
KINDS = ["xfs", "btrfs"]


def _trial(top: Path) -> Trial:
    trial = Trial(SPEC, NoConfig(), top)
    trial.make()
    return trial


def _used(top: Path) -> int:
    os.sync()
    disk = os.statvfs(top)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


@pytest.mark.parametrize("kind", KINDS)
async def test_the_contract_is_kept(kind: str, mount: Mount) -> None:
    disk = mount(kind)
    trial = _trial(disk / "probed")
    assert SPEC.probe is not None and SPEC.probe(trial.context).works
    await check_snapshot_store(SPEC, workdir=disk)


async def test_ext4_is_refused(mount: Mount) -> None:
    trial = _trial(mount("ext4") / "allowed")
    assert SPEC.probe is not None
    found = SPEC.probe(trial.context)
    assert not found.works and "ext4" in found.why


async def test_a_place_beside_the_root_is_needed(mount: Mount) -> None:
    disk = mount("xfs")
    assert SPEC.probe is not None
    for allowed, why in ((disk, "allowed directory itself"), (disk.parent, "mount point")):
        context = SnapshotContext(roots=(os.fsencode(disk),), allowed=(os.fsencode(allowed),), secret=b"s")
        found = SPEC.probe(context)
        assert not found.works and why in found.why


@pytest.mark.parametrize("kind", KINDS)
async def test_blocks_are_shared_until_one_side_changes(kind: str, mount: Mount) -> None:
    trial = _trial(mount(kind) / "allowed")
    big = trial.top / "0" / "big"
    big.write_bytes(os.urandom(20 << 20))
    before = _used(trial.top)
    async with trial.open() as store:
        await trial.take(store, "1")
        assert _used(trial.top) - before < 4 << 20
        small = await store.space("1")
        assert small is not None and small < 1 << 20
        with big.open("r+b") as file:  # all of it: btrfs frees an extent when nobody needs any part of it
            file.write(os.urandom(20 << 20))
            os.fsync(file.fileno())
        own = await store.space("1")
        assert own is not None and 20 << 20 <= own < 24 << 20


async def test_a_full_disk_is_told_and_can_be_emptied(mount: Mount) -> None:
    disk = mount("btrfs", 120)
    trial = _trial(disk / "allowed")
    async with trial.open() as store:
        await trial.take(store, "1")
        many = trial.top / "0" / "many"
        many.mkdir()
        tried = []
        with pytest.raises((StopRule, OSError)) as full:
            for number in range(400):
                directory = many / str(number)
                directory.mkdir()
                for file in range(200):
                    (directory / f"{'n' * 200}{file}").write_bytes(b"x" * 2000)
                if number % 5 == 4:
                    os.sync()
                    tried.append(f"2-{number}")
                    with trial.roots() as fds:
                        await store.create(tried[-1], fds)
        assert not isinstance(full.value, StopRule) or full.value.code is Code.REPLICA_FULL
        taken = await store.names()
        assert "1" in taken
        for name in taken:
            await store.remove(name)
        for name in tried:
            await store.remove(name)
        assert not await store.names()
        assert sorted(os.listdir(trial.top)) == ["0", "1"]


@pytest.mark.parametrize("step", range(15))
async def test_a_kill_leaves_a_whole_one_or_none(step: int, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off before each of its steps, of taking and of removing."""
    trial = _trial(mount("xfs") / "allowed")
    wanted = trial.now()
    left = step

    class Killed(BaseException):
        pass

    def dying(where: object, name: str) -> None:
        real = getattr(where, name)

        def die(*given: Any, **more: Any) -> Any:
            nonlocal left
            if not left:
                raise Killed
            left -= 1
            return real(*given, **more)

        monkeypatch.setattr(where, name, die)

    dying(ReflinkSnapshots, "take")
    dying(ReflinkSnapshots, "clear")
    dying(beside_snapshots, "sync_filesystem")
    dying(beside_snapshots, "_spoil")
    dying(Beside, "remove_empty")
    dying(Beside, "open")
    ended = False
    try:
        async with trial.open() as store:
            with trial.roots() as fds:
                await store.create("1", fds)
            await store.remove("1")
            ended = True
    except Killed:
        pass
    monkeypatch.undo()
    async with trial.open() as store:
        names = set(await store.names())
        assert names <= {"1"}
        for name in names:
            async with store.open(name) as trees:
                assert [seen(tree) for tree in trees] == wanted
        await store.remove("1")
        assert not await store.names()
    assert ended == (step == 14), "there are other steps than were tried"
    assert sorted(os.listdir(trial.top)) == ["0", "1"]


async def test_nobody_elses_directory_is_used(mount: Mount) -> None:
    trial = _trial(mount("xfs") / "allowed")
    async with trial.open() as store:
        await trial.take(store, "1")
        homes = list(trial.top.glob(".i2-*"))
        await store.remove("1")
        for home in homes:
            home.mkdir(0o755)
        with trial.roots() as fds, pytest.raises(StopRule) as refused:
            await store.create("2", fds)
        assert refused.value.code is Code.SNAPSHOT_CREATE
        for home in homes:
            home.rmdir()


async def test_a_file_system_mounted_in_the_replica_is_told(mount: Mount) -> None:
    trial = _trial(mount("xfs") / "allowed")
    inner = trial.top / "0" / "dir"
    subprocess.run(["mount", "-t", "tmpfs", "none", str(inner)], check=True)  # noqa: S603, S607
    try:
        (inner / "file").write_text("elsewhere")
        async with trial.open() as store:
            with trial.roots() as fds, pytest.raises(StopRule, match="another file system"):
                await store.create("1", fds)
            await store.remove("1")
    finally:
        subprocess.run(["umount", str(inner)], check=True)  # noqa: S603, S607


async def test_many_files(mount: Mount) -> None:
    """A figure, for whoever reads the output: seconds for 10,000 files."""
    trial = _trial(mount("xfs", 1000) / "allowed")
    for directory in range(100):
        place = trial.top / "0" / f"d{directory}"
        place.mkdir()
        for number in range(100):
            (place / str(number)).write_bytes(b"x" * 5000)
    async with trial.open() as store:
        began = time.monotonic()
        with trial.roots() as fds:
            await store.create("1", fds)
        print(f"10,000 files in {time.monotonic() - began:.2f} s")
        async with store.open("1"):
            (marker,) = trial.top.glob(".i2-*/1.whole")
            assert compare_trees(trial.top / "0", marker.with_suffix("")) == []
