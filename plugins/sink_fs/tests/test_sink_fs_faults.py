"""A full disk, a process without rights, a file system that fails: nothing is harmed, and it is said."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from i2_sink_fs import system, volumes
from i2_sink_fs.attributes import Attributes

from i2core.api import Batch, Code, Kind, Meta, Record, StopRule

if TYPE_CHECKING:
    from conftest import OpenAt, Replica

FILE = Meta(stat.S_IFREG | 0o644, os.geteuid(), os.getegid(), 1, ())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 of 8 MB."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a small disk")
    image, mount = tmp_path / "image", tmp_path / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)  # noqa: S603, S607
    tried = subprocess.run(["mount", "-o", "loop", image, mount], check=False)  # noqa: S603, S607
    if tried.returncode:
        pytest.skip("this host cannot mount loop devices")
    yield mount
    subprocess.run(["umount", mount], check=True)  # noqa: S603, S607


async def test_full_disk_stops_the_rule_and_harms_nothing(small_disk: Path, open_at: OpenAt) -> None:
    async with open_at(small_disk, small_disk / "data", said=[]) as sink:
        data = os.urandom(600_000)
        old = Record(Kind.CREATE, 0, b"old", meta=FILE, data=data)
        assert (await sink.apply(Batch(1, [old]))).failures == ()
        many = [Record(Kind.CREATE, 0, b"new%d" % n, meta=FILE, data=data) for n in range(20)]
        with pytest.raises(StopRule) as stopped:
            await sink.apply(Batch(2, many))
        assert stopped.value.code is Code.REPLICA_FULL
        assert stopped.value.obj.rpartition("/")[2].startswith("new"), "it names the file"
        with pytest.raises(StopRule):
            await sink.apply(Batch(2, [Record(Kind.CREATE, 0, b"old", meta=FILE, data=os.urandom(600_000))]))
        await sink.flush()
        names = os.listdir(small_disk / "data")
        assert not [name for name in names if name.startswith(".i2-")]
        assert all((small_disk / "data" / name).read_bytes() == data for name in names)
        (small_disk / "data" / "new0").unlink()
        assert (await sink.apply(Batch(2, [old]))).failures == (), "goes on when there is space again"


async def test_mount_inside_a_replica_is_flushed(
    small_disk: Path, open_at: OpenAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = system.sync_filesystem

    def sync(fd: int) -> None:
        synced.append(os.fstat(fd).st_dev)
        real(fd)

    monkeypatch.setattr(volumes, "sync_filesystem", sync)
    above = small_disk.parent
    async with open_at(above, above, said=[]) as sink:
        await sink.flush()  # of what a process before may have left
        synced.clear()
        await sink.flush()
        assert synced == [], "nothing changed"
        await sink.apply(Batch(1, [Record(Kind.CREATE, 0, b"mount/f", meta=FILE)]))
        await sink.flush()
        assert synced == [small_disk.stat().st_dev]
        await sink.apply(Batch(2, [Record(Kind.CREATE, 0, b"f", meta=FILE), Record(Kind.REMOVE, 0, b"mount/f")]))
        await sink.flush()
        await sink.flush()
        assert sorted(synced[1:]) == sorted([small_disk.stat().st_dev, above.stat().st_dev])
        failures = (await sink.apply(Batch(4, [Record(Kind.RENAME, 0, b"f", other=b"mount/g")]))).failures
        assert [(f.repair, "mounted" in f.message) for f in failures] == [(False, True)]


async def test_failed_sync_is_never_followed_by_a_promise(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(fd: int) -> None:
        raise OSError(5, "Input/output error")

    await replica.apply(Record(Kind.CREATE, 0, b"f", meta=FILE))
    with monkeypatch.context() as patch:
        patch.setattr(volumes, "sync_filesystem", failing)
        with pytest.raises(StopRule) as stopped:
            await replica.sink.flush()
    assert stopped.value.code is Code.REPLICATE_FILE
    await replica.apply(Record(Kind.CREATE, 0, b"g", meta=FILE))
    with pytest.raises(StopRule):
        await replica.sink.flush()


async def test_the_first_flush_covers_what_a_killed_process_left(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(volumes, "sync_filesystem", lambda fd: synced.append(os.fstat(fd).st_dev))
    for _ in range(2):
        await replica.sink.flush()
    assert synced == [replica.root.stat().st_dev]


async def test_flush_during_a_batch_leaves_it_to_the_next(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    await replica.sink.flush()
    monkeypatch.setattr(volumes, "sync_filesystem", synced.append)
    many = [Record(Kind.CREATE, 0, b"f%d" % n, meta=FILE) for n in range(2000)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(replica.apply, *many)
        await trio.testing.wait_all_tasks_blocked()
        await replica.sink.flush()
        assert synced == [], "nothing was applied before"
    await replica.sink.flush()
    assert len(synced) == 1


async def test_read_only_replica_stops_the_rule(small_disk: Path, open_at: OpenAt) -> None:
    async with open_at(small_disk, small_disk / "data", said=[]) as sink:
        await trio.run_process(["mount", "-o", "remount,ro", str(small_disk)])
        with pytest.raises(StopRule) as stopped:
            await sink.apply(Batch(1, [Record(Kind.CREATE, 0, b"f", meta=FILE)]))
        assert stopped.value.code is Code.REPLICATE_FILE


AS_NOBODY = """
import os, stat, sys
from pathlib import Path
import trio
top = Path(sys.argv[1])
from i2core.api import Batch, Kind, Meta, NoConfig, Record, SinkContext
from i2core.testing.sink import check_sink
from i2_sink_fs.plugin import i2_sinks
import i2_sink_fs.sink
os.setgroups([])  # not before: the interpreter's own files may be readable for root alone
os.setgid(65534)
os.setuid(65534)
(spec,) = i2_sinks()
said = []

async def main():
    await check_sink(spec, workdir=top)
    root = os.fsencode(top / "data")
    async with spec.open(NoConfig(), SinkContext(roots=(root,), allowed=(os.fsencode(top),), say=said.append)) as sink:
        assert not sink.owns
        foreign = Meta(stat.S_IFREG | 0o640, 0, 0, 7, ((b"trusted.x", b"1"), (b"user.x", b"1")))
        device = foreign._replace(mode=stat.S_IFCHR | 0o600, xattrs=())
        records = [
            Record(Kind.CREATE, 0, b"f%d" % n, meta=foreign, data=b"x") for n in range(5)
        ] + [Record(Kind.MKNOD, 0, b"c%d" % n, meta=device, size=os.makedev(1, 3)) for n in range(5)]
        applied = await sink.apply(Batch(1, records))
        assert applied.failures == (), applied
        found = os.stat(top / "data" / "f0")
        assert (found.st_mode, found.st_uid, found.st_mtime_ns) == (foreign.mode, 65534, 7), found
        assert os.listxattr(top / "data" / "f0") == ["user.x"]
        # Read-only directories and files of our own do not stand in the way, and stay as they are.
        locked = foreign._replace(mode=stat.S_IFDIR | 0o555, xattrs=())
        inner = foreign._replace(mode=stat.S_IFREG | 0o444, xattrs=())
        for _ in range(2):
            applied = await sink.apply(Batch(11, [
                Record(Kind.MKDIR, 0, b"d", meta=locked),
                Record(Kind.MKDIR, 0, b"d/e", meta=locked),
                Record(Kind.CREATE, 0, b"d/e/f", meta=inner, data=b"first"),
                Record(Kind.WRITE, 0, b"d/e/f", data=b"again"),
                Record(Kind.SETATTR, 0, b"d/e/f", meta=inner),
                Record(Kind.CREATE, 0, b"d/g", meta=inner),
                Record(Kind.RENAME, 0, b"d/g", other=b"d/e/g"),
                Record(Kind.REMOVE, 0, b"d/e/g"),
            ]))
            assert applied.failures == (), applied
            assert stat.S_IMODE(os.stat(top / "data" / "d" / "e").st_mode) == 0o555
            assert stat.S_IMODE(os.stat(top / "data" / "d" / "e" / "f").st_mode) == 0o444
            assert (top / "data" / "d" / "e" / "f").read_bytes() == b"again"
            assert os.listdir(top / "data" / "d") == ["e"]
        applied = await sink.apply(Batch(19, [Record(Kind.REMOVE, 0, b"d")]))
        assert applied.failures == (), applied
        assert not (top / "data" / "d").exists()

trio.run(main)
kinds = sorted(line.partition("replica: ")[2].partition(" (")[0] for line in said)
assert kinds == ["devices", "extended attributes trusted.*", "owner"], said
"""


def test_the_root_of_a_replica_has_a_name_in_what_is_said() -> None:
    said: list[str] = []
    Attributes(said.append).unsupported("owner", "")
    assert [line.partition(": ")[0] for line in said] == ["."]


@pytest.mark.root
def test_without_root(tmp_path: Path) -> None:
    """The whole contract, and what cannot be kept is said once for each kind."""
    top = tmp_path / "nobody"
    top.mkdir()
    os.chown(top, 65534, 65534)
    above = [parent for parent in top.parents if not parent.stat().st_mode & stat.S_IXOTH]
    modes = [parent.stat().st_mode for parent in above]
    try:
        for parent in above:
            parent.chmod(0o711)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "HOME": str(top)}
        run = subprocess.run(  # noqa: S603
            [sys.executable, "-c", AS_NOBODY, str(top)], env=environment, capture_output=True, text=True, check=False
        )
    finally:
        for parent, mode in zip(above, modes, strict=True):
            parent.chmod(stat.S_IMODE(mode))
    assert run.returncode == 0, run.stderr
