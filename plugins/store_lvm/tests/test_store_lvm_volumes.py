"""Real volumes, classic and thin. For a host with a spare disk in `I2_SPARE_DISK`, which is overwritten: the guest that
`test_store_lvm.py` starts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from i2_store_lvm.config import LvmConfig
from i2_store_lvm.plugin import i2_snapshot_stores
from i2_store_lvm.volumes import read_volumes

from i2core.api import Code, StopRule
from i2core.testing.snapshot_store import Trial, check_snapshot_store, seen

DISK = os.environ.get("I2_SPARE_DISK", "")
pytestmark = pytest.mark.skipif(not DISK, reason="needs a spare disk: I2_SPARE_DISK")
(SPEC,) = i2_snapshot_stores()
GROUP = "i2test"


def _run(*command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True)  # noqa: S603
    assert not done.returncode, (command, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def group() -> Iterator[str]:
    """A volume group on the spare disk."""
    _run("pvcreate", "-ffy", DISK)
    _run("vgcreate", GROUP, DISK)
    yield GROUP
    _run("vgremove", "-ffy", GROUP)


@pytest.fixture(params=["classic-ext4", "thin-ext4", "classic-xfs"])
def disk(request: pytest.FixtureRequest, group: str) -> Iterator[Path]:
    """A mounted volume."""
    layout, _, kind = request.param.partition("-")
    size = "64M" if kind == "ext4" else "300M"
    if layout == "thin":
        _run("lvcreate", "-y", "-T", "-L", "160M", f"{group}/pool")
        _run("lvcreate", "-y", "-T", "-V", size, "-n", "replicas", f"{group}/pool")
    else:
        _run("lvcreate", "-y", "-W", "n", "-L", size, "-n", "replicas", group)
    _run(f"mkfs.{kind}", "-q", f"/dev/{group}/replicas")
    point = Path("/mnt/replicas")
    point.mkdir(exist_ok=True)
    _run("mount", f"/dev/{group}/replicas", point)
    yield point
    _run("umount", point)
    _run("lvremove", "-ffy", group)


def _trial(disk: Path, **options: object) -> Trial:
    trial = Trial(SPEC, attrs.evolve(LvmConfig(), **options), disk / "allowed")  # type: ignore[arg-type]
    trial.make()
    return trial


def _mounts() -> int:
    return Path("/proc/self/mountinfo").read_text().count("i2snap")


async def test_the_contract_is_kept(disk: Path) -> None:
    trial = _trial(disk)
    assert SPEC.probe is not None
    found = SPEC.probe(trial.context)
    assert found.works, found.why
    await check_snapshot_store(SPEC, {"size_percent": 30}, workdir=disk)
    assert not _mounts()
    assert not [volume for volume in read_volumes() if volume.name.startswith("i2snap")]


async def test_a_snapshot_that_fills_up_is_extended_and_a_lost_one_is_not_listed(disk: Path) -> None:
    if "classic" not in os.environ["PYTEST_CURRENT_TEST"] or "xfs" in os.environ["PYTEST_CURRENT_TEST"]:
        pytest.skip("only classic snapshots fill up by themselves")
    trial = _trial(disk, size_percent=15, extend_at_percent=30, extend_by_percent=50)
    big = trial.top / "0" / "big"
    async with trial.open() as store:
        wanted = await trial.take(store, "1")
        before = _size("1")
        big.write_bytes(os.urandom(6 << 20))
        _run("sync", "-f", disk)
        await store.tend()
        assert _size("1") > before
        async with store.open("1") as trees:
            assert [seen(tree) for tree in trees] == wanted
        space = await store.space("1")
        assert space is not None and space >= 4 << 20
        for number in range(30):  # beyond all that it has
            big.with_name(f"more-{number}").write_bytes(os.urandom(1 << 20))
            _run("sync", "-f", disk)
        assert not await store.names()
        await store.remove("1")


def _size(name: str) -> int:
    return next(volume.size_bytes for volume in read_volumes() if name in volume.name.split("-"))


async def test_a_full_group_is_told(disk: Path) -> None:
    if "thin" in os.environ["PYTEST_CURRENT_TEST"]:
        pytest.skip("a thin snapshot needs no room")
    trial = _trial(disk, size_percent=100)
    async with trial.open() as store:
        with pytest.raises(StopRule) as full:
            for number in range(9):
                with trial.roots() as fds:
                    await store.create(str(number), fds)
        assert full.value.code is Code.REPLICA_FULL
        for name in await store.names():
            await store.remove(name)


async def test_what_is_wrong_has_the_codes_of_the_manual(disk: Path) -> None:
    other = _trial(disk, volume_group="elsewhere")
    async with other.open() as store:
        with other.roots() as fds, pytest.raises(StopRule, match="no volume group elsewhere") as wrong:
            await store.create("1", fds)
        assert wrong.value.code is Code.VOLUME_GROUP
    _run("mount", "--bind", disk, disk)
    try:
        again = Trial(SPEC, LvmConfig(), disk / "allowed")
        async with again.open() as store:
            with again.roots() as fds, pytest.raises(StopRule, match="mounted several times") as wrong:
                await store.create("1", fds)
            assert wrong.value.code is Code.MOUNTED_TWICE
    finally:
        _run("umount", disk)
    elsewhere = Trial(SPEC, LvmConfig(), Path("/mnt/elsewhere"))
    elsewhere.make()
    async with elsewhere.open() as store:
        with elsewhere.roots() as fds, pytest.raises(StopRule, match="no logical volume") as wrong:
            await store.create("1", fds)
        assert wrong.value.code is Code.LOGICAL_VOLUME
    _run("rm", "-r", elsewhere.top)
