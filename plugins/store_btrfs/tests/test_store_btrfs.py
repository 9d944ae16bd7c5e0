"""Subvolumes on a real btrfs: the contract, and what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from i2_store_btrfs.plugin import i2_snapshot_stores
from i2_store_btrfs.store import BtrfsSnapshots

from i2core.api import Code, NoConfig, StopRule
from i2core.posix import beside_snapshots
from i2core.posix.beside import Beside
from i2core.testing.snapshot_store import Trial, check_snapshot_store, seen

if TYPE_CHECKING:
    from conftest import Mount

pytestmark = pytest.mark.root
(SPEC,) = i2_snapshot_stores()


@attrs.define
class Subvolumes(Trial):
    """A replica whose directories are subvolumes."""

    def make(self) -> None:
        """The first state of the replica."""
        self.top.mkdir(parents=True)
        super().make()
        for name in ("0", "1"):
            plain, root = self.top / f"{name}.plain", self.top / name
            root.rename(plain)
            _btrfs("subvolume", "create", root)
            subprocess.run(["cp", "-aT", str(plain), str(root)], check=True)  # noqa: S603, S607
            shutil.rmtree(plain)


def _btrfs(*command: str | Path) -> None:
    subprocess.run(["btrfs", *map(str, command)], check=True, capture_output=True)  # noqa: S603, S607


@pytest.fixture
def trial(mount: Mount) -> Trial:
    made = Subvolumes(SPEC, NoConfig(), mount("btrfs") / "allowed")
    made.make()
    return made


async def test_the_contract_is_kept(mount: Mount) -> None:
    disk = mount("btrfs")
    probe = Subvolumes(SPEC, NoConfig(), disk / "probed")
    probe.make()
    assert SPEC.probe is not None and SPEC.probe(probe.context).works
    await check_snapshot_store(SPEC, workdir=disk, trials=Subvolumes)
    assert [path.name for path in disk.iterdir()] == ["probed"]


async def test_plain_directories_and_other_file_systems_are_refused(mount: Mount) -> None:
    assert SPEC.probe is not None
    for kind, why in (("btrfs", "no subvolume"), ("ext4", "not on btrfs")):
        plain = Trial(SPEC, NoConfig(), mount(kind) / "allowed")
        plain.make()
        found = SPEC.probe(plain.context)
        assert not found.works and why in found.why
        if kind == "btrfs":
            async with plain.open() as store:
                with plain.roots() as fds, pytest.raises(StopRule, match="no subvolume") as refused:
                    await store.create("1", fds)
                assert refused.value.code is Code.SNAPSHOT_CREATE
                await store.remove("1")


async def test_another_subvolume_in_it_is_told(trial: Trial) -> None:
    _btrfs("subvolume", "create", trial.top / "0" / "dir" / "inner")
    async with trial.open() as store:
        with trial.roots() as fds, pytest.raises(StopRule, match="another subvolume in it"):
            await store.create("1", fds)
        await store.remove("1")
        assert not await store.names()


async def test_room_is_measured(trial: Trial) -> None:
    big = trial.top / "0" / "big"
    big.write_bytes(os.urandom(20 << 20))
    async with trial.open() as store:
        began = time.monotonic()
        await trial.take(store, "1")
        print(f"taken in {time.monotonic() - began:.3f} s")
        small = await store.space("1")
        assert small is not None and small < 1 << 20
        big.write_bytes(os.urandom(20 << 20))
        os.sync()
        own = await store.space("1")
        assert own is not None and 20 << 20 <= own < 24 << 20
        with pytest.raises(OSError, match="Read-only"):
            next(trial.top.glob(".i2-*/1/file")).write_text("changed")


@pytest.mark.parametrize("step", range(15))
async def test_a_kill_leaves_a_whole_one_or_none(step: int, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off before each of its steps, of taking and of removing."""
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

    dying(BtrfsSnapshots, "take")
    dying(BtrfsSnapshots, "clear")
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
