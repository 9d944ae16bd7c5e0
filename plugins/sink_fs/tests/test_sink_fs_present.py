"""What the history asks of plain files and changes there: where objects are kept, what nobody may be led to, and what
becomes of it on other file systems. The contract itself is in `tests/unit/test_replica_check.py`."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from i2_sink_fs.present.replica import FsReplica
from i2_sink_fs.roots import Roots
from i2_sink_fs.system import rename_new

from i2core.api import Batch, Kind, Meta, Record, SinkContext, StopRule
from i2core.api.present import STAGING, STORE, TOP, Handle
from i2core.posix import syscalls
from i2core.posix.errnos import PASSING
from i2core.posix.removal import remove
from i2core.posix.syscalls import inode_flags, set_inode_flags

if TYPE_CHECKING:
    from conftest import OpenAt

IMMUTABLE = 0x10
FILE = Meta(stat.S_IFREG | 0o644, os.geteuid(), os.getegid(), 1_000_000_007, ())
DIR = FILE._replace(mode=stat.S_IFDIR | 0o755)


@contextmanager
def opened(allowed: Path, *roots: Path, flags: bool = False) -> Iterator[FsReplica]:
    """The replica with these roots."""
    names = tuple(map(os.fsencode, roots))
    context = SinkContext(roots=names, allowed=(os.fsencode(allowed),), secret=bytes(32), flags=flags)
    with FsReplica(context, Roots(names, context.allowed, {})) as replica:
        yield replica


def at(replica: FsReplica, *way: bytes, top: int = TOP) -> Handle:
    """What these names lead to."""
    handle = replica.directory(top)
    for name in way:
        child = replica.child(handle, name)
        assert child is not None, name
        handle = child
    return handle


def store_in(directory: Path) -> Path:
    (found,) = directory.glob(".i2-history-*")
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "backup" / "rule" / "data"
    made.mkdir(parents=True)
    (made / "file").write_bytes(b"content")
    return made


# ------------------------------------------------------------------------------------------ where objects are kept


def test_the_store_lies_beside_the_root_and_stays(tmp_path: Path, root: Path) -> None:
    with opened(tmp_path / "backup", root) as replica:
        assert list(replica.names(replica.directory(STORE))) == []
        assert not list((tmp_path / "backup").glob(".i2-*"))  # made when it is needed
        replica.move(at(replica, b"0"), b"file", replica.directory(STORE), b"1")
        replica.flush()
    store = store_in(tmp_path / "backup")
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    with opened(tmp_path / "backup", root) as replica:
        assert replica.read(at(replica, b"1", top=STORE), 0, 9) == b"content"
        replica.move(replica.directory(STORE), b"1", at(replica, b"0"), b"file")
        replica.flush()
    assert store.is_dir()


def test_the_store_is_in_a_root_that_is_allowed_itself_and_nobody_sees_it(root: Path) -> None:
    os.utime(root, ns=(7, 7))
    with opened(root, root) as replica:
        top = at(replica, b"0")
        replica.link(at(replica, b"0", b"file"), replica.directory(STORE), b"1")
        name = os.fsencode(store_in(root).name)
        assert list(replica.names(top)) == [b"file"]
        assert replica.child(top, name) is None
        replica.remove(top, name)
        with pytest.raises(OSError, match="Invalid"):
            replica.move(top, b"file", top, name)
    assert store_in(root).joinpath("1").exists()
    assert root.stat().st_mtime_ns == 7


def test_the_store_is_below_a_directory_in_which_nothing_can_be_made(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = os.mkdir

    def mkdir(name: bytes, mode: int, *, dir_fd: int) -> None:
        if os.readlink(b"/proc/self/fd/%d" % dir_fd) == os.fsencode(tmp_path / "backup"):
            raise PermissionError(13, "refused")
        make(name, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", mkdir)
    for _ in range(2):
        with opened(tmp_path / "backup", root) as replica:
            if not list(replica.names(replica.directory(STORE))):
                replica.move(at(replica, b"0"), b"file", replica.directory(STORE), b"1")
            assert replica.read(at(replica, b"1", top=STORE), 0, 9) == b"content"
    assert store_in(tmp_path / "backup" / "rule").is_dir()


def test_nobody_else_can_give_it_its_store(tmp_path: Path, root: Path) -> None:
    with opened(tmp_path / "backup", root) as replica:
        replica.link(at(replica, b"0", b"file"), replica.directory(STORE), b"1")
    store = store_in(tmp_path / "backup")
    store.chmod(0o755)  # as if another user had made it
    with pytest.raises(PermissionError), opened(tmp_path / "backup", root):
        pass
    store.rename(tmp_path / "elsewhere")
    store.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"Not a directory|Too many"), opened(tmp_path / "backup", root):
        pass
    assert (tmp_path / "elsewhere" / "1").exists()


def test_a_flush_tells_that_root_or_store_is_gone(tmp_path: Path, root: Path) -> None:
    with opened(tmp_path / "backup", root) as replica:
        replica.link(at(replica, b"0", b"file"), replica.directory(STORE), b"1")
        replica.flush()
        store = store_in(tmp_path / "backup")
        store.rename(tmp_path / "elsewhere")
        with pytest.raises(StopRule):
            replica.flush()
        store.mkdir(0o700)
        with pytest.raises(StopRule):
            replica.flush()
        store.rmdir()
        (tmp_path / "elsewhere").rename(store)
        replica.flush()
        root.rename(tmp_path / "away")
        with pytest.raises(StopRule):
            replica.flush()


# ------------------------------------------------------------------------------------------ traps


def test_a_symlink_that_takes_a_place_leads_nowhere(tmp_path: Path, root: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"outside")
    (root / "dir").mkdir()
    (root / "dir" / "file").write_bytes(b"inside")
    with opened(tmp_path / "backup", root) as replica:
        directory, file = at(replica, b"0", b"dir"), at(replica, b"0", b"dir", b"file")
        (root / "dir").rename(root / "moved")
        (root / "dir").symlink_to(outside)
        (root / "moved" / "file").rename(root / "moved" / "old")
        (root / "moved" / "file").symlink_to(outside / "file")
        replica.write(file, 0, b"IN")
        replica.set_meta(file, FILE)
        assert replica.read(file, 0, 9) == b"INside"
        link = at(replica, b"0", b"moved", b"file")
        replica.set_meta(link, FILE._replace(mode=stat.S_IFLNK | 0o777))
        for change in (lambda: replica.read(link, 0, 9), lambda: replica.write(link, 0, b"IN")):
            with pytest.raises(OSError, match="no regular file"):
                change()
        replica.move(directory, b"file", replica.directory(STORE), b"1")
        replica.remove(at(replica, b"0"), b"dir")
        assert replica.child(at(replica, b"1", top=STORE), b"x") is None
    assert (outside / "file").read_bytes() == b"outside"
    assert (outside / "file").stat().st_mtime_ns != FILE.mtime_ns


def test_nothing_but_a_regular_file_is_opened(tmp_path: Path, root: Path) -> None:
    os.mkfifo(root / "fifo")
    with opened(tmp_path / "backup", root) as replica:
        fifo = at(replica, b"0", b"fifo")  # would block
        for ask in (
            lambda: replica.read(fifo, 0, 9),
            lambda: list(replica.extents(fifo, 0, 9)),
            lambda: replica.write(fifo, 0, b"x"),
            lambda: replica.truncate(fifo, 0),
            lambda: replica.punch(fifo, 0, 9),
        ):
            with pytest.raises(OSError, match="no regular file"):
                ask()
        replica.set_meta(fifo, FILE._replace(mode=stat.S_IFIFO | 0o640))
        assert replica.facts(fifo).meta.mode == stat.S_IFIFO | 0o640


def test_descriptors_are_limited_as_the_process_is(tmp_path: Path, root: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with opened(tmp_path / "backup", root) as replica:
        top = at(replica, b"0")
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (160, hard))
            many = [at(replica, b"0", b"file") for _ in range(9)]
            with pytest.raises(OSError, match="Too many open files") as caught:
                while True:
                    many.append(at(replica, b"0", b"file"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert caught.value.errno in PASSING
        assert replica.open_handles <= 20
        replica.release(many.pop())
        assert replica.child(top, b"file") is not None


def test_what_is_read_only_is_changed_and_stays_so(tmp_path: Path, root: Path) -> None:
    (root / "dir" / "sub").mkdir(parents=True)
    (root / "dir" / "file").write_bytes(b"content")
    for path, mode in ((root / "dir" / "file", 0o400), (root / "dir" / "sub", 0o500), (root / "dir", 0o500)):
        path.chmod(mode)
    with opened(tmp_path / "backup", root) as replica:
        directory, file = at(replica, b"0", b"dir"), at(replica, b"0", b"dir", b"file")
        replica.write(file, 0, b"C")
        replica.link(file, directory, b"second")
        replica.move(directory, b"sub", replica.directory(STORE), b"1")
        replica.remove(directory, b"second")
        assert replica.facts(file).meta.mode == stat.S_IFREG | 0o400
        assert replica.facts(directory).meta.mode == stat.S_IFDIR | 0o500
        assert replica.facts(at(replica, b"1", top=STORE)).meta.mode == stat.S_IFDIR | 0o500
    assert sorted(os.listdir(root / "dir")) == ["file"]


def test_pins_are_taken_off_for_one_change(tmp_path: Path, root: Path) -> None:
    (root / "dir").mkdir()
    paths = [root / "file", root / "dir"]
    fds = [os.open(path, os.O_RDONLY) for path in paths]
    try:
        for fd in fds:
            set_inode_flags(fd, inode_flags(fd) | IMMUTABLE)
    except OSError:
        pytest.skip("this process or file system cannot make files immutable")
    try:
        with opened(tmp_path / "backup", root, flags=True) as replica:
            top, file, directory = at(replica, b"0"), at(replica, b"0", b"file"), at(replica, b"0", b"dir")
            replica.write(file, 0, b"C")
            replica.link(file, directory, b"second")
            replica.move(top, b"file", directory, b"third")
            replica.remove(directory, b"second")
            assert [inode_flags(fd) & IMMUTABLE for fd in fds] == [IMMUTABLE, IMMUTABLE]
            meta = replica.facts(file).meta
            assert meta.flags >> 32 & IMMUTABLE
            replica.set_meta(file, meta._replace(flags=0, mtime_ns=5))
            replica.set_meta(directory, replica.facts(directory).meta._replace(mtime_ns=6))
            assert [inode_flags(fd) & IMMUTABLE for fd in fds] == [0, IMMUTABLE]
            assert [replica.facts(each).meta.mtime_ns for each in (file, directory)] == [5, 6]
    finally:
        for fd in fds:
            set_inode_flags(fd, inode_flags(fd) & ~IMMUTABLE)
            os.close(fd)


# ------------------------------------------------------------------------------------------ beside a sink


async def test_a_sink_goes_on_with_what_was_put_back_into_staging(tmp_path: Path, open_at: OpenAt) -> None:
    top = tmp_path / "backup"
    root = top / "data"
    stage, write = Record(Kind.STAGE, 0, b"d/f"), Record(Kind.WRITE, 0, b"d/f", data=b"12345", staged=True)
    publish = Record(Kind.PUBLISH, 0, b"d/f", size=5, meta=FILE)
    async with open_at(top, root, said=[]) as sink:
        done = await sink.apply(Batch(1, [Record(Kind.MKDIR, 0, b"d", meta=DIR), stage, write, publish]))
        assert not done.failures
        await sink.flush()
    with opened(top, root) as replica:
        replica.move(at(replica, b"0", b"d"), b"f", replica.directory(STAGING), b"0/d/f")
        assert list(replica.names(at(replica, b"0"))) == [b"d"]
        replica.flush()
    async with open_at(top, root, said=[]) as sink:
        again = write._replace(offset=4, data=b"!")
        assert not (await sink.apply(Batch(5, [again, publish]))).failures
        await sink.flush()
    assert (root / "d" / "f").read_bytes() == b"1234!"
    assert os.listdir(root) == ["d"]


# ------------------------------------------------------------------------------------------ other file systems


def tree(directory: Path) -> None:
    """A tree with an object of each kind."""
    (directory / "sub").mkdir(parents=True)
    with (directory / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(1 << 20)
        file.write(b"end")
    os.link(directory / "sparse", directory / "sub" / "second")
    (directory / "link").symlink_to("nowhere")
    os.mkfifo(directory / "fifo", 0o640)
    os.setxattr(directory / "sparse", "user.a", b"1")
    for number, path in enumerate(sorted([directory, *directory.rglob("*")], reverse=True), 1):
        os.utime(path, ns=(number * 10**9, number * 10**9), follow_symlinks=False)


def seen(replica: FsReplica, handle: Handle, *above: bytes) -> dict[tuple[bytes, ...], tuple[object, ...]]:
    """All that is beneath an object."""
    facts = replica.facts(handle)
    found: dict[tuple[bytes, ...], tuple[object, ...]] = {}
    if stat.S_ISREG(facts.meta.mode):
        holes = [extent.hole for extent in replica.extents(handle, 0, facts.size)]
        found[above] = (facts.meta, facts.size, facts.links, holes, replica.read(handle, 0, facts.size))
    else:
        found[above] = (facts.meta, facts.size)  # how many links a directory has is the file system's affair
    for name in list(replica.names(handle)) if stat.S_ISDIR(facts.meta.mode) else ():
        child = replica.child(handle, name)
        assert child is not None
        found.update(seen(replica, child, *above, name))
        replica.release(child)
    return found


def test_to_another_file_system_all_is_copied(tmp_path: Path, small_disk: Path, root: Path) -> None:
    tree(root / "tree")
    second = small_disk / "data"
    with opened(tmp_path, root, second) as replica:
        first, other = at(replica, b"0"), at(replica, b"1")
        before = seen(replica, at(replica, b"0", b"tree"))
        replica.move(first, b"tree", other, b"tree")
        assert replica.child(first, b"tree") is None
        assert seen(replica, at(replica, b"1", b"tree")) == before
        # Each file system has its store: there a tree goes by one rename.
        identity = replica.facts(at(replica, b"1", b"tree")).identity
        replica.move(other, b"tree", replica.directory(STORE), b"1")
        assert replica.facts(at(replica, b"1", top=STORE)).identity == identity
        replica.move(first, b"file", replica.directory(STORE), b"2")
        assert sorted(replica.names(replica.directory(STORE))) == [b"1", b"2"]
        replica.flush()
    assert os.listdir(store_in(small_disk)) == ["1"]
    assert os.listdir(store_in(tmp_path)) == ["2"]
    with opened(tmp_path, second, root) as replica:
        assert sorted(replica.names(replica.directory(STORE))) == [b"1", b"2"]


def test_a_file_system_within_a_root_has_no_store(tmp_path: Path, small_disk: Path) -> None:
    tree(small_disk / "tree")
    with opened(tmp_path, tmp_path) as replica:
        mount = at(replica, b"0", b"mount")
        before = seen(replica, at(replica, b"0", b"mount", b"tree"))
        replica.move(mount, b"tree", replica.directory(STORE), b"1")
        assert seen(replica, at(replica, b"1", top=STORE)) == before
        replica.move(replica.directory(STORE), b"1", mount, b"again")
        assert seen(replica, at(replica, b"0", b"mount", b"again")) == before
        replica.link(at(replica, b"0", b"mount", b"again", b"sparse"), replica.directory(STORE), b"2")
        assert replica.facts(at(replica, b"2", top=STORE)).size == before[(b"sparse",)][1]
        assert sorted(set(replica.names(mount)) - {b"lost+found"}) == [b"again"]
        replica.flush()


def test_a_copy_that_was_cut_off_is_made_again(
    tmp_path: Path, small_disk: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_write(*args: object) -> None:
        raise OSError(5, "broken")

    def broken_rename(source_fd: int, name: bytes, target_fd: int, new: bytes) -> None:
        if name.startswith(b"copy-"):
            raise OSError(5, "broken")
        rename_new(source_fd, name, target_fd, new)

    tree(root / "tree")
    with opened(tmp_path, root, small_disk / "data") as replica:
        before = seen(replica, at(replica, b"0", b"tree"))
        for where, broken in (("copying.write_all", broken_write), ("copying.rename_new", broken_rename)):
            with monkeypatch.context() as patch, pytest.raises(OSError, match="broken"):
                patch.setattr(f"i2_sink_fs.present.{where}", broken)
                replica.move(at(replica, b"0"), b"tree", at(replica, b"1"), b"tree")
            assert list(replica.names(at(replica, b"1"))) == []
            assert seen(replica, at(replica, b"0", b"tree")) == before
        replica.move(at(replica, b"0"), b"tree", at(replica, b"1"), b"tree")
        assert seen(replica, at(replica, b"1", b"tree")) == before
        assert replica.child(at(replica, b"0"), b"tree") is None


def test_a_copy_is_durable_before_the_object_goes(
    tmp_path: Path, small_disk: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut leaves one of both whole: nothing orders what two file systems write."""
    steps: list[str] = []

    def noted(name: str, step: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            steps.append(name)
            return step(*args)

        return call

    tree(root / "tree")
    with opened(tmp_path, root, small_disk / "data") as replica:
        monkeypatch.setattr("i2_sink_fs.volumes.sync_filesystem", noted("sync", syscalls.sync_filesystem))
        for module in ("copying", "replica"):
            monkeypatch.setattr(f"i2_sink_fs.present.{module}.rename_new", noted("rename", rename_new))
            monkeypatch.setattr(f"i2_sink_fs.present.{module}.remove", noted("remove", remove))
        replica.move(at(replica, b"0"), b"tree", at(replica, b"1"), b"tree")
    # It fails to rename, removes what an earlier copy has left, copies; then:
    assert steps == ["rename", "remove", "sync", "rename", "sync", "remove"]
