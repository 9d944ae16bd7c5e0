"""What plain files owe beyond `check_sink` when records keep objects for a history: what a crash leaves between two
system calls, what a reader sees meanwhile, and what other file systems need."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from i2_sink_fs import claiming
from i2_sink_fs.plugin import i2_sinks, open_fs
from i2_sink_fs.replica import open_replica

from i2core.api import Applied, Batch, Kind, Meta, NoConfig, Place, Record, Sink, SinkContext, StopRule
from i2core.api.inode_flags import packed
from i2core.api.present import STORE
from i2core.posix.syscalls import inode_flags, set_inode_flags

if TYPE_CHECKING:
    from conftest import OpenAt

IMMUTABLE = 0x10
FILE = Meta(stat.S_IFREG | 0o644, os.geteuid(), os.getegid(), 1_000_000_007, ())
DIR = FILE._replace(mode=stat.S_IFDIR | 0o755)
LINK = FILE._replace(mode=stat.S_IFLNK | 0o777)
OLDS = {
    "file": (Record(Kind.CREATE, 0, b"x", meta=FILE, data=b"old"),),
    "link": (Record(Kind.SYMLINK, 0, b"x", meta=LINK, other=b"old"),),
    "tree": (Record(Kind.MKDIR, 0, b"x", meta=DIR), Record(Kind.CREATE, 0, b"x/in", meta=FILE, data=b"old")),
}
BEFORE = (
    Record(Kind.CREATE, 0, b"other", meta=FILE, data=b"new"),
    Record(Kind.MKDIR, 0, b"full", meta=DIR),
    Record(Kind.STAGE, 0, b"x"),
)
NEWS = {
    "create": Record(Kind.CREATE, 0, b"x", meta=FILE, data=b"new"),
    "symlink": Record(Kind.SYMLINK, 0, b"x", meta=LINK, other=b"new"),
    "mkdir": Record(Kind.MKDIR, 0, b"x", meta=DIR),
    "link": Record(Kind.LINK, 0, b"x", other=b"other"),
    "rename": Record(Kind.RENAME, 0, b"other", other=b"x"),
    "rename-dir": Record(Kind.RENAME, 0, b"full", other=b"x"),
    "publish": Record(Kind.PUBLISH, 0, b"x", meta=FILE),
    "remove": Record(Kind.REMOVE, 0, b"x"),
}
CALLS = ("os.link", "os.rename", "os.unlink", "os.rmdir", "os.mkdir", "i2_sink_fs.keeping.rename_new")


class Killed(BaseException):
    """The process ends here."""


async def done(sink: Sink, seq: int, *records: Record, keeps: dict[bytes, int] | None = None) -> Applied:
    """Applies the records, each with these keeps."""
    applied = await sink.apply(Batch(seq, records, None if keeps is None else [keeps] * len(records)))
    assert not applied.failures
    return applied


def store_in(directory: Path) -> Path:
    (found,) = directory.glob(".i2-history-*")
    return found


@contextmanager
def before_each_call(step: Callable[[], None]) -> Iterator[None]:
    """Within the block, `step` is called before each system call that changes a name."""
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            module, _, call = name.rpartition(".")
            real = getattr(sys.modules[module], call)

            def called(*args: object, real: Callable[..., object] = real, **kwargs: object) -> object:
                step()
                return real(*args, **kwargs)

            patch.setattr(name, called)
        yield


def number_of(path: Path) -> int | None:
    return os.lstat(path).st_ino if os.path.lexists(path) else None


@pytest.mark.parametrize("old", OLDS)
@pytest.mark.parametrize("new", NEWS)
async def test_a_crash_leaves_what_is_kept_under_its_name_or_its_number(
    tmp_path: Path, open_at: OpenAt, old: str, new: str
) -> None:
    """Also where the process dies between two system calls; and where one file replaces another, a reader never sees
    nothing."""
    if new == "mkdir" and old == "tree":
        pytest.skip("a directory that is there stays")
    top = tmp_path / "backup"
    for stop in range(100):
        root, seen = top / f"{stop}" / "data", list[int | None]()
        root.mkdir(parents=True)
        async with open_at(root.parent, root, said=[]) as sink:
            await done(sink, 1, *OLDS[old], *BEFORE)
            await done(sink, 50, Record(Kind.CREATE, 0, b"y"), Record(Kind.REMOVE, 0, b"y"), keeps={b"y": 1})
            inode, kept = number_of(root / "x"), store_in(root.parent) / "7"

            def step(root: Path = root, seen: list[int | None] = seen, stop: int = stop) -> None:
                seen.append(number_of(root / "x"))
                if len(seen) > stop:
                    raise Killed

            with before_each_call(step):
                try:
                    await sink.apply(Batch(100, [NEWS[new]], [{b"x": 7}]))
                    ended = True
                except BaseException as error:
                    assert isinstance(error, Killed) or "Killed" in repr(error)
                    ended = False
            assert inode in (number_of(root / "x"), number_of(kept)), f"lost before call {stop}"
        async with open_at(root.parent, root, said=[]) as sink:
            again = await sink.apply(Batch(100, [NEWS[new]], [{b"x": 7}]))
            assert all(failure.repair for failure in again.failures)
            if not again.failures:
                assert number_of(kept) == inode
                assert number_of(root / "x") != inode
        if ended:
            break
    assert ended
    assert number_of(kept) == inode
    if old != "tree" and new not in ("mkdir", "rename-dir", "remove"):
        assert None not in seen, "there was nothing for a moment"


async def test_what_cannot_take_the_name_leaves_the_object(
    tmp_path: Path, open_at: OpenAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, rename = tmp_path / "backup" / "data", os.rename

    def refused(old: bytes, new: bytes, **where: int) -> None:
        if new == b"x":
            raise OSError(errno.ETXTBSY, "refused")
        rename(old, new, **where)

    for number, old in enumerate(OLDS, 10):
        async with open_at(tmp_path / "backup", root, said=[]) as sink:
            await done(sink, 1, *OLDS[old])
            inode = number_of(root / "x")
            with monkeypatch.context() as patch:
                patch.setattr(os, "rename", refused)
                applied = await sink.apply(Batch(10, [NEWS["create"]], [{b"x": number}]))
            assert len(applied.failures) == 1
            assert not applied.made
            assert number_of(root / "x") == inode
            assert not os.path.lexists(store_in(tmp_path / "backup") / str(number))
            assert os.lstat(root / "x").st_nlink == (2 if old == "tree" else 1)
            await done(sink, 11, Record(Kind.REMOVE, 0, b""))


@pytest.mark.parametrize("old", OLDS)
async def test_a_file_system_without_hard_links_keeps_by_renaming(
    tmp_path: Path, open_at: OpenAt, monkeypatch: pytest.MonkeyPatch, old: str
) -> None:
    def refused(*args: object, **where: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    root = tmp_path / "backup" / "data"
    async with open_at(tmp_path / "backup", root, said=[]) as sink:
        await done(sink, 1, *OLDS[old])
        inode = number_of(root / "x")
        await done(sink, 10, NEWS["create"], keeps={b"x": 7})
    assert (root / "x").read_bytes() == b"new"
    assert number_of(store_in(tmp_path / "backup") / "7") == inode


async def test_what_lies_on_another_file_system_is_copied(tmp_path: Path, small_disk: Path, open_at: OpenAt) -> None:
    """A disk that is mounted in the replica has no store: a root of the rule would be needed there."""
    root = small_disk.parent
    async with open_at(root, root, said=[]) as sink:
        for number, (name, record) in enumerate(NEWS.items(), 1):
            if name in ("rename", "link", "rename-dir"):
                continue  # they do not reach the other file system
            here = record._replace(path=b"mount/x")
            for old in OLDS:
                key = number * 10 + list(OLDS).index(old)
                makes = [each._replace(path=b"mount/" + each.path) for each in (*OLDS[old], *BEFORE)]
                await done(sink, 1, *makes)
                if name != "mkdir" or old != "tree":
                    await done(sink, 20, here, keeps={b"mount/x": key})
                    kept = store_in(root) / str(key)
                    assert os.path.lexists(kept)
                    assert kept.lstat().st_dev != small_disk.stat().st_dev
                    assert old != "tree" or (kept / "in").read_bytes() == b"old"
                    assert old != "file" or kept.read_bytes() == b"old"
                    await done(sink, 20, Record(Kind.REMOVE, 0, b"mount/x"), keeps={b"mount/x": key})
                await done(sink, 30, *(Record(Kind.REMOVE, 0, each.path) for each in makes))
        await sink.flush()


async def test_nothing_is_destroyed_when_the_store_is_gone(tmp_path: Path, open_at: OpenAt) -> None:
    root = tmp_path / "backup" / "data"
    for record in (NEWS["create"], NEWS["remove"], NEWS["mkdir"]):
        async with open_at(tmp_path / "backup", root, said=[]) as sink:
            await done(sink, 1, *OLDS["file"])
            await done(sink, 10, Record(Kind.CREATE, 0, b"x", meta=FILE, data=b"kept"), keeps={b"x": 7})
            inode, store = number_of(root / "x"), store_in(tmp_path / "backup")
            (store / "7").unlink()
            store.rmdir()
            with pytest.raises(StopRule):
                await sink.apply(Batch(20, [record], [{b"x": 8}]))
            assert number_of(root / "x") == inode
            with pytest.raises(StopRule):
                await sink.flush()


async def test_a_directory_that_is_spared_is_not_kept_either(tmp_path: Path) -> None:
    root = tmp_path / "backup" / "data"
    context = SinkContext(roots=(bytes(root),), allowed=(bytes(tmp_path / "backup"),), spares=True, secret=bytes(32))
    async with open_fs(NoConfig(), context) as sink:
        await done(sink, 1, *OLDS["tree"], *BEFORE)
        for name in ("create", "symlink", "rename", "publish"):
            assert await sink.apply(Batch(10, [NEWS[name]], [{b"x": 7}])) == Applied(9, (), True)
        assert (root / "x" / "in").read_bytes() == b"old"
        assert not list(store_in(tmp_path / "backup").iterdir())


async def test_a_name_in_what_is_kept_is_no_difference_of_another(tmp_path: Path, open_at: OpenAt) -> None:
    """The file has a name in the store for good, which its number of links tells, and nothing else."""
    root = tmp_path / "backup" / "data"
    async with open_at(tmp_path / "backup", root, said=[]) as sink:
        await done(sink, 1, *OLDS["tree"], Record(Kind.LINK, 0, b"second", other=b"x/in"))
        await done(sink, 10, Record(Kind.REMOVE, 0, b"x"), keeps={b"x": 7})
        assert (root / "second").lstat().st_nlink == 2
        assert await sink.count(Place(0, b""), 9) == 1
        await done(sink, 20, Record(Kind.WRITE, 0, b"second", data=b"new"), keeps={})
    assert (root / "second").read_bytes() == b"new"


# ------------------------------------------------------------------------------------------ the replica beside it


async def test_sink_and_replica_are_open_at_the_same_time(tmp_path: Path) -> None:
    """Each finds the store that the other one has made."""
    (spec,) = i2_sinks()
    assert spec.replica is not None
    allowed = bytes(tmp_path / "backup")
    context = SinkContext(roots=(allowed + b"/data",), allowed=(allowed,), secret=bytes(32))
    async with spec.replica(NoConfig(), context) as replica, spec.open(NoConfig(), context) as sink:
        store = replica.directory(STORE)
        assert list(replica.names(store)) == []
        await done(sink, 1, *OLDS["file"])
        await done(sink, 2, NEWS["remove"], keeps={b"x": 7})
        assert list(replica.names(store)) == [b"7"]
        replica.remove(store, b"7")
        await done(sink, 3, *OLDS["tree"])
        await done(sink, 5, NEWS["remove"], keeps={b"x": 7})
        handle = replica.child(store, b"7")
        assert handle is not None
        assert list(replica.names(handle)) == [b"in"]


async def test_a_replica_is_opened_with_the_checks_of_its_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = bytes(tmp_path / "backup")
    context = SinkContext(roots=(allowed + b"/data",), allowed=(allowed,), secret=bytes(32))
    async with open_fs(NoConfig(), context) as sink:
        known = {context.roots[0]: sink.identities[0]}
    os.rename(allowed, bytes(tmp_path / "away"))
    os.mkdir(allowed)
    gone = SinkContext(roots=context.roots, allowed=(allowed,), secret=bytes(32), known=known)
    with pytest.raises(StopRule):
        async with open_replica(gone):
            pass
    monkeypatch.setattr(claiming, "PATIENCE_S", 0)
    os.mkdir(context.roots[0])
    fd = os.open(context.roots[0], os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # as another process would
        with pytest.raises(StopRule):
            async with open_replica(context):
                pass
    finally:
        os.close(fd)
    async with open_replica(context):
        pass


# ------------------------------------------------------------------------------------------ holes


async def test_a_punch_that_ends_within_the_last_block_leaves_that_block(small_disk: Path, open_at: OpenAt) -> None:
    """Beyond the end of the file, ext4 would free it, which a history, as any other file system, does not expect."""
    block = os.statvfs(small_disk).f_bsize
    size, found = 2 * block + block // 2, small_disk / "data" / "f"
    async with open_at(small_disk, small_disk / "data", said=[]) as sink:
        await done(sink, 1, Record(Kind.CREATE, 0, b"f", meta=FILE, data=b"x" * size))
        await done(sink, 2, Record(Kind.PUNCH, 0, b"f", offset=2 * block, size=block * 3 // 4))
        await sink.flush()
        assert found.read_bytes() == b"x" * (2 * block) + bytes(block // 2)
        assert found.stat().st_blocks * 512 == 3 * block
        await done(sink, 3, Record(Kind.PUNCH, 0, b"f", offset=block + 1, size=4 * block))
        await sink.flush()
    assert found.read_bytes() == b"x" * (block + 1) + bytes(size - block - 1)
    assert found.stat().st_blocks * 512 == 2 * block


# ------------------------------------------------------------------------------------------ pins


async def test_what_is_pinned_is_kept_with_its_pins(tmp_path: Path, open_at: OpenAt) -> None:
    """Immutable objects in an immutable directory: all is taken off for the record, and put back, also in the store."""
    root = tmp_path / "backup" / "data"
    pinned = packed(IMMUTABLE, 0)
    async with open_at(tmp_path / "backup", root, said=[], flags=True) as sink:
        try:
            await done(sink, 1, Record(Kind.MKDIR, 0, b"d", meta=DIR))
            for number, (record, way) in enumerate(((NEWS["create"], "f"), (NEWS["remove"], "t/in")), 7):
                path = b"d/" + os.fsencode(way)
                makes = [Record(Kind.MKDIR, 0, b"d/t", meta=DIR)] if "/" in way else []
                makes += [Record(Kind.CREATE, 0, path, meta=FILE._replace(flags=pinned), data=b"old")]
                await done(sink, 10, *makes, Record(Kind.SETATTR, 0, b"d", meta=DIR._replace(flags=pinned)))
                if not flags_at(root / "d" / way) & IMMUTABLE:
                    pytest.skip("this process or file system cannot make files immutable")
                await done(sink, 20, record._replace(path=path), keeps={path: number})
                kept = store_in(tmp_path / "backup") / str(number)
                assert kept.read_bytes() == b"old"
                assert flags_at(kept) & flags_at(root / "d") & IMMUTABLE
        finally:
            await sink.apply(Batch(30, [Record(Kind.SETATTR, 0, b"d", meta=DIR._replace(flags=0))]))
            for each in (tmp_path / "backup").rglob("*"):
                unpin(each)


def flags_at(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        return inode_flags(fd)
    finally:
        os.close(fd)


def unpin(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        if inode_flags(fd) & IMMUTABLE:
            set_inode_flags(fd, inode_flags(fd) & ~IMMUTABLE)
    finally:
        os.close(fd)
