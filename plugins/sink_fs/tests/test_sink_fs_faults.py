"""A full disk, a process without rights, a file system that fails: nothing is harmed, and it is said."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from i2_sink_fs import content, volumes
from i2_sink_fs.attributes import Attributes
from i2_sink_fs.directories import Directories
from i2_sink_fs.plugin import open_fs
from i2_sink_fs.roots import Roots
from i2_sink_fs.staging import Staging

from i2core.api import BLOCK_BYTES, Ask, Batch, Code, Kind, Meta, NoConfig, Place, Record, SinkContext, StopRule
from i2core.posix import syscalls

if TYPE_CHECKING:
    from conftest import OpenAt, Replica

FILE = Meta(stat.S_IFREG | 0o644, os.geteuid(), os.getegid(), 1, ())


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
    real = syscalls.sync_filesystem

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


@pytest.mark.parametrize("kind", [Kind.CREATE, Kind.REMOVE])
async def test_a_flush_that_is_cancelled_leaves_nothing_to_no_flush(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    """The next one calls durable what was applied before: so one of both must sync it."""
    synced: list[int] = []
    await replica.apply(Record(Kind.CREATE, 0, b"f", meta=FILE))
    await replica.sink.flush()
    monkeypatch.setattr(volumes, "sync_filesystem", synced.append)
    await replica.apply(Record(kind, 0, b"f", meta=FILE if kind is Kind.CREATE else None))
    with trio.CancelScope() as scope:
        scope.cancel()
        await replica.sink.flush()
    assert scope.cancelled_caught
    await replica.sink.flush()
    assert len(synced) == 1


async def test_what_a_sink_removes_as_it_closes_another_ones_flush_makes_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The private directory that a power cut would bring back: its sink is closed, and nothing else has changed."""
    root, synced, shared = tmp_path / "data", list[int](), dict[str, object]()
    context = SinkContext(roots=(os.fsencode(root),), allowed=(os.fsencode(tmp_path),), secret=bytes(32), shared=shared)
    async with open_fs(NoConfig(), context) as lasting:
        await lasting.flush()
        async with open_fs(NoConfig(), context) as closing:
            await closing.apply(Batch(1, [Record(Kind.CREATE, 0, b"f", meta=FILE)] * 2))
            assert len(os.listdir(root)) == 2, "the file, and the private directory"
        assert os.listdir(root) == ["f"]
        monkeypatch.setattr(volumes, "sync_filesystem", synced.append)
        await lasting.flush()
        await lasting.flush()
        assert len(synced) == 1


async def test_read_only_replica_stops_the_rule(small_disk: Path, open_at: OpenAt) -> None:
    async with open_at(small_disk, small_disk / "data", said=[]) as sink:
        await trio.run_process(["mount", "-o", "remount,ro", str(small_disk)])
        with pytest.raises(StopRule) as stopped:
            await sink.apply(Batch(1, [Record(Kind.CREATE, 0, b"f", meta=FILE)]))
        assert stopped.value.code is Code.REPLICATE_FILE


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("full", [False, True])
async def test_no_room_for_one_object_is_its_own_failure(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, error: int, full: bool
) -> None:
    """A quota is used up, or a directory can hold no more names, on a disk that has room."""

    def failing(path: Any, *arguments: Any, **options: Any) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", failing)
        patch.setattr("i2_sink_fs.apply.has_room", lambda fd: not full)
        batch = Batch(1, [Record(Kind.MKDIR, 0, b"d", meta=FILE._replace(mode=stat.S_IFDIR | 0o755))])
        if full:
            with pytest.raises(StopRule) as stopped:
                await replica.sink.apply(batch)
            assert stopped.value.code is Code.REPLICA_FULL
        else:
            (failure,) = (await replica.sink.apply(batch)).failures
            assert (failure.repair, failure.code) == (False, Code.REPLICATE_FILE)


async def test_what_the_attributes_of_a_record_met_is_not_the_next_ones(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A staged file whose attributes cannot be set, and which then cannot take its name: one failure, of its own."""
    place = Place(0, b"big")
    staged = [
        Record(Kind.STAGE, 0, b"big"),
        Record(Kind.WRITE, 0, b"big", data=b"x", staged=True),
    ]
    assert await replica.apply(*staged) == ()

    def refuse(*_args: Any, **_options: Any) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    with monkeypatch.context() as patch:
        patch.setattr(Attributes, "settle", refuse)
        patch.setattr(os, "rename", refuse)
        publish = Record(Kind.PUBLISH, 0, b"big", meta=FILE, size=1)
        failed = await replica.apply(publish, Record(Kind.CREATE, 0, b"other"))
    assert [failure.place for failure in failed] == [place]


async def test_staging_files_follow_a_rename_that_was_interrupted(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process was killed after the directory had its new name. The repeated record fails, so that the directory is
    compared, and records for what is staged beneath it find their staging file."""
    rename = Record(Kind.RENAME, 0, b"d", other=b"e")
    begun = [Record(Kind.STAGE, 0, b"d/f"), Record(Kind.WRITE, 0, b"d/f", data=b"one ", staged=True)]
    rest = [
        Record(Kind.WRITE, 0, b"e/f", offset=4, data=b"two", staged=True),
        Record(Kind.PUBLISH, 0, b"e/f", size=7, meta=FILE),
    ]
    assert await replica.apply(Record(Kind.MKDIR, 0, b"d"), *begun) == ()
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "moved", lambda *_args: None)
        assert await replica.apply(rename) == ()
    (failure,) = await replica.apply(rename, *rest)
    assert (failure.place, failure.repair) == (Place(0, b"e"), True)
    assert (replica.root / "e/f").read_bytes() == b"one two"


AS_NOBODY = """
import os, stat, sys
from pathlib import Path
import trio
import trio.testing
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
        # A directory is written to when it moves into the store.
        applied = await sink.apply(Batch(19, [Record(Kind.REMOVE, 0, b"d")], [{b"d": 7}]))
        assert applied.failures == (), applied
        (kept,) = top.glob(".i2-history-*/7")
        assert stat.S_IMODE(os.stat(kept).st_mode) == 0o555
        assert os.listdir(kept) == ["e"]
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


def test_a_file_that_somebody_cuts_while_it_is_hashed_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seek = os.lseek

    def lseek(fd: int, at: int, whence: int) -> int:
        if whence == os.SEEK_HOLE:
            os.truncate(tmp_path / "file", 0)
        return seek(fd, at, whence)

    with (tmp_path / "file").open("wb") as file:
        file.seek(2 * BLOCK_BYTES)
        file.write(b"a" * BLOCK_BYTES)
        file.truncate(8 * BLOCK_BYTES)
    monkeypatch.setattr(os, "lseek", lseek)
    assert len(_digests(tmp_path / "file")) <= 8 * 16


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_is_hashed_where_the_file_system_cannot_tell_of_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.seek(2 * BLOCK_BYTES)
        file.write(b"a" * BLOCK_BYTES)
        file.truncate(8 * BLOCK_BYTES)
    expected = _digests(tmp_path / "file")

    def lseek(fd: int, at: int, whence: int) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "lseek", lseek)
    assert _digests(tmp_path / "file") == expected


def _digests(path: Path) -> bytes:
    """Of the first eight blocks of a file."""
    with content.read_buffer() as into, content.FoundFile(os.open(path, os.O_RDONLY)) as file:
        return content.digests(file, 0, 8, into)


PASSING = ("EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EINTR", "ESTALE")


class Refusing:
    """Stands for a call of `os`, and refuses the first so many times."""

    def __init__(self, call: str, error: str, times: int) -> None:
        self._real = getattr(os, call)
        self._error = getattr(errno, error)
        self.left = times

    def __call__(self, *args: Any, **more: Any) -> Any:
        if self.left:
            self.left -= 1
            raise OSError(self._error, os.strerror(self._error))
        return self._real(*args, **more)


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("call", ["open", "mkdir", "rename", "utime", "stat", "link", "unlink"])
async def test_what_passes_is_waited_for(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, call: str, name: str
) -> None:
    """Whichever call it hits, and however often: no record is left out, and no rule stops."""
    refuse = Refusing(call, name, 40)

    records = [
        Record(Kind.MKDIR, 0, b"d", meta=FILE._replace(mode=stat.S_IFDIR | 0o755)),
        Record(Kind.CREATE, 0, b"d/f", meta=FILE, data=b"old"),
        Record(Kind.CREATE, 0, b"d/f", meta=FILE, data=b"new"),
        Record(Kind.LINK, 0, b"d/g", other=b"d/f"),
        Record(Kind.STAGE, 0, b"d/s"),
        Record(Kind.WRITE, 0, b"d/s", data=b"staged", staged=True),
        Record(Kind.PUBLISH, 0, b"d/s", size=6, meta=FILE),
        Record(Kind.RENAME, 0, b"d/s", other=b"d/t"),
        Record(Kind.WRITE, 0, b"d/t", data=b"S"),
        Record(Kind.REMOVE, 0, b"d/g"),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        assert await replica.apply(*records) == ()
        (seen,) = await replica.sink.look([Ask(Place(0, b"d"), [b"f", b"t"], every=True)])
        await replica.sink.flush()
    assert refuse.left == 0
    assert sorted(seen.names or ()) == [b"f", b"t"]
    assert None not in seen.entries
    assert (replica.root / "d/f").read_bytes() == b"new"
    assert (replica.root / "d/t").read_bytes() == b"Staged"
    assert sorted(os.listdir(replica.root)) == ["d"]
    told = [line for line in replica.said if "3626" in line]
    assert len(told) == 1
    assert os.strerror(getattr(errno, name)) in told[0]
    assert any(line.endswith("continues") for line in replica.said)


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("call", ["open", "scandir"])
async def test_names_are_read_page_by_page_when_there_are_descriptors_again(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, call: str, name: str
) -> None:
    refuse = Refusing(call, name, 20)

    await replica.apply(Record(Kind.CREATE, 0, b"f", meta=FILE))
    await replica.sink.flush()
    monkeypatch.setattr(os, call, refuse)
    pages = await replica.sink.names(Place(0, b""))
    assert (await pages.next(), await pages.next(), refuse.left) == ([b"f"], [], 0)
    pages.close()


async def test_a_sink_is_opened_when_there_are_descriptors_again(
    tmp_path: Path, open_at: OpenAt, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    refuse = Refusing("open", "EMFILE", 20)

    monkeypatch.setattr(os, "open", refuse)
    async with open_at(tmp_path / "backup", tmp_path / "backup" / "data", said=[]) as sink:
        assert (await sink.apply(Batch(1, [Record(Kind.CREATE, 0, b"f", meta=FILE)]))).failures == ()
    assert refuse.left == 0


async def test_a_mount_inside_a_replica_can_be_unmounted_when_it_was_flushed(small_disk: Path, open_at: OpenAt) -> None:
    """As the message about it says: the mount is in the way of a removal."""
    above = small_disk.parent
    async with open_at(above, above, said=[]) as sink:
        await sink.apply(Batch(1, [Record(Kind.CREATE, 0, b"mount/f", meta=FILE, data=b"beneath the mount")]))
        (failure,) = (await sink.apply(Batch(2, [Record(Kind.REMOVE, 0, b"mount")]))).failures
        assert "unmount it" in failure.message
        await sink.flush()
        await trio.run_process(["umount", str(small_disk)])
        assert (await sink.apply(Batch(3, [Record(Kind.REMOVE, 0, b"mount")]))).failures == ()
        await sink.flush()
        assert not small_disk.exists()
        small_disk.mkdir()
        await trio.run_process(["mount", "-o", "loop", str(above / "image"), str(small_disk)])


async def test_a_mount_that_changes_during_its_flush_is_held_until_the_next(
    small_disk: Path, open_at: OpenAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an error of writing what was changed meanwhile would be reported to nobody."""
    above, synced = small_disk.parent, list[int]()
    kept = volumes.Volumes()
    with Directories(Roots([os.fsencode(above)], [os.fsencode(above)], {}), [frozenset()]) as opened:
        mount = opened.find(0, b"mount")

        def sync(fd: int) -> None:
            synced.append(fd)
            if len(synced) == 1:
                with kept.changing(mount):
                    pass

        monkeypatch.setattr(volumes, "sync_filesystem", sync)
        with kept.changing(mount):
            pass
        kept.sync(kept.take())
        kept.watch(mount)
        kept.sync(kept.take())
        assert synced == [synced[0]] * 2, "the same descriptor: it knows of errors since the first change"
        os.fstat(synced[0])
        kept.changed({mount.device})
        kept.sync(kept.take())
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(synced[0])
