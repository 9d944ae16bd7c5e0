"""The sink's private directory: nobody else can use it, nobody sees it at rest, and it is found again."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from i2_sink_fs import files, objects
from i2_sink_fs.kept import Names
from i2_sink_fs.plugin import open_fs

from i2core.api import BLOCK_BYTES, Ask, Batch, Code, Kind, Meta, NoConfig, Place, Record, SinkContext, StopRule
from i2core.posix import durable

if TYPE_CHECKING:
    from conftest import OpenAt, Replica

SECRET = bytes(32)
"""That of `open_at`."""
FILE = Meta(stat.S_IFREG | 0o644, os.geteuid(), os.getegid(), 1, ())
DIR = FILE._replace(mode=stat.S_IFDIR | 0o755)
LARGE = b"a" * BLOCK_BYTES
STAGE = Record(Kind.STAGE, 0, b"d/f")
WRITE = Record(Kind.WRITE, 0, b"d/f", data=LARGE, staged=True)
PUBLISH = Record(Kind.PUBLISH, 0, b"d/f", size=BLOCK_BYTES, meta=FILE)


def own(root: Path, names: Names | None = None) -> Path:
    """The private directory of a replica."""
    names = names or Names(SECRET, [os.fsencode(root)])
    return root / os.fsdecode(names.private[0])


async def test_every_name_is_an_ordinary_one(replica: Replica) -> None:
    names = [b".i2-", b".i2-cache", b".i2-staging-" + b"0" * 32, b".i2-new-1", b".i2-gone-0"]
    records = [Record(Kind.CREATE, 0, name, meta=FILE, data=name) for name in names]
    assert await replica.apply(*records, *records) == ()
    (seen,) = await replica.sink.look([Ask(Place(0, b""), names, every=True)])
    assert sorted(seen.names or ()) == sorted(names)
    assert None not in seen.entries
    assert await replica.apply(*(Record(Kind.REMOVE, 0, name) for name in names)) == ()


async def test_the_one_name_that_no_record_may_use(replica: Replica) -> None:
    name = os.fsencode(own(replica.root).name)
    await replica.apply(Record(Kind.MKDIR, 0, b"d", meta=DIR), STAGE, WRITE)
    failures = await replica.apply(
        Record(Kind.CREATE, 0, name, meta=FILE),
        Record(Kind.CREATE, 0, name + b"/x", meta=FILE),
        Record(Kind.RENAME, 0, name, other=b"seen"),
        Record(Kind.REMOVE, 0, name),
    )
    assert [failure.code for failure in failures] == [Code.ILLEGAL_PATH] * 4
    (seen,) = await replica.sink.look([Ask(Place(0, b""), [name], every=True)])
    assert (list(seen.names or ()), list(seen.entries)) == ([b"d"], [None])
    assert (await replica.sink.look([Ask(Place(0, name), [b"x"], every=True)]))[0].here is None
    assert await replica.sink.count(Place(0, b""), 9) == 0
    assert await replica.apply(PUBLISH) == ()


async def test_nobody_can_enter_and_nothing_is_left(replica: Replica) -> None:
    os.utime(replica.root, ns=(5, 5))
    await replica.apply(Record(Kind.MKDIR, 0, b"d", meta=DIR), Record(Kind.SETATTR, 0, b"", meta=DIR))
    before = replica.root.stat().st_mtime_ns
    await replica.apply(STAGE, WRITE)
    assert os.listdir(replica.root / "d") == []
    (staged,) = (path for path in own(replica.root).rglob("*") if path.is_file())
    assert staged.name == "f"
    assert staged.stat().st_mode == stat.S_IFREG | 0o600
    assert own(replica.root).stat().st_mode == stat.S_IFDIR | 0o700
    assert await replica.apply(PUBLISH) == ()
    assert await replica.at_rest() == ["d"]
    # What replaces something is made there, too.
    assert (
        await replica.apply(Record(Kind.CREATE, 0, b"d/f", meta=FILE), Record(Kind.LINK, 0, b"d/g", other=b"d/f")) == ()
    )
    assert await replica.at_rest() == ["d"]
    assert replica.root.stat().st_mtime_ns == before


@pytest.mark.parametrize("kind", [Kind.CREATE, Kind.PUBLISH])
async def test_content_is_never_in_a_file_that_others_may_open(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    """Whatever the directory gives its new files: a group, an access list."""
    await replica.apply(Record(Kind.MKDIR, 0, b"d", meta=DIR._replace(mode=stat.S_IFDIR | 0o2777)))
    if os.geteuid() == 0:
        os.chown(replica.root / "d", 0, 65534)
        (replica.root / "d").chmod(0o2777)
    acl = bytes.fromhex("0200000001000700ffffffff02000700feff000004000700ffffffff10000700ffffffff20000700ffffffff")
    try:
        os.setxattr(replica.root / "d", "system.posix_acl_default", acl)
    except OSError:
        pytest.skip("no access lists here")
    seen: list[int] = []
    real = durable.write_all

    def write_all(fd: int, data: bytes, offset: int) -> None:
        status = os.fstat(fd)
        assert status.st_uid == os.geteuid()
        seen.append(stat.S_IMODE(status.st_mode))
        real(fd, data, offset)

    for module in (files, objects):
        monkeypatch.setattr(module, "write_all", write_all)
    meta = FILE._replace(mode=stat.S_IFREG | 0o640)
    create = Record(Kind.CREATE, 0, b"d/f", meta=meta, data=b"x")
    records = [STAGE, WRITE, PUBLISH._replace(meta=meta)] if kind is Kind.PUBLISH else [create]
    for _ in range(2):
        assert await replica.apply(*records) == ()
    assert seen == [0o600, 0o600]
    assert stat.S_IMODE((replica.root / "d/f").stat().st_mode) == 0o640
    assert os.listxattr(replica.root / "d/f") == []


@pytest.mark.parametrize("trap", ["symlink", "file", "fifo", "open directory", "full directory"])
async def test_whatever_has_its_name_is_not_used(replica: Replica, trap: str) -> None:
    at = own(replica.root)
    await replica.apply(Record(Kind.MKDIR, 0, b"d", meta=DIR))
    if trap == "symlink":
        at.symlink_to(replica.outside)
    elif trap == "file":
        at.write_text("x")
    elif trap == "fifo":
        os.mkfifo(at)
    else:
        at.mkdir(0o755)
        if trap == "full directory":
            (at / "full").mkdir()
            (at / "full" / "file").write_text("x")
    with trio.fail_after(10):
        assert await replica.apply(STAGE, WRITE, PUBLISH) == ()
        assert await replica.apply(STAGE, WRITE) == ()
    assert at.stat().st_mode == stat.S_IFDIR | 0o700
    assert await replica.apply(PUBLISH) == ()
    assert await replica.at_rest() == ["d"]


@pytest.mark.root
async def test_a_directory_of_another_user_is_not_used(replica: Replica) -> None:
    await replica.apply(Record(Kind.MKDIR, 0, b"d", meta=DIR))
    own(replica.root).mkdir(0o700)
    os.chown(own(replica.root), 65534, 65534)
    assert await replica.apply(STAGE, WRITE) == ()
    assert own(replica.root).stat().st_uid == 0


async def test_what_a_killed_process_was_about_to_place_is_removed(replica: Replica) -> None:
    """It may be a second name of a good file, into which nothing may be written."""
    records = [Record(Kind.CREATE, 0, name, meta=FILE, data=name) for name in (b"good", b"x")]
    await replica.apply(*records)
    names = Names(SECRET, [os.fsencode(replica.root)])
    own(replica.root).mkdir(0o700)
    os.link(replica.root / "good", own(replica.root) / os.fsdecode(names.new[0]))
    assert await replica.apply(Record(Kind.CREATE, 0, b"x", meta=FILE, data=b"new")) == ()
    assert (replica.root / "good").read_bytes() == b"good"
    assert await replica.at_rest() == ["good", "x"]


@pytest.mark.parametrize("what", ["nothing", "new", "tree"])
async def test_the_next_start_removes_what_a_killed_process_left(tmp_path: Path, open_at: OpenAt, what: str) -> None:
    root = tmp_path / "backup" / "data"
    names = Names(SECRET, [os.fsencode(root)])
    own(root).mkdir(0o700, parents=True)
    if what == "new":
        (own(root) / os.fsdecode(names.new[0])).write_text("x")
    elif what == "tree":
        (own(root) / os.fsdecode(names.tree[0]) / "d" / "e").mkdir(parents=True)
    os.utime(root, ns=(5, 5))
    async with open_at(tmp_path / "backup", root, said=[]):
        assert os.listdir(root) == []
        assert root.stat().st_mtime_ns == 5


# ------------------------------------------------------------------------------------------------ how long it stays

REPLACE = Record(Kind.CREATE, 0, b"f", meta=FILE, data=b"x")


async def test_it_is_made_once_for_many_batches(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = os.mkdir

    def mkdir(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        made.append(path)
        real(path, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", mkdir)
    await replica.apply(REPLACE)
    for _ in range(2):
        made.clear()
        for _ in range(3):
            assert await replica.apply(REPLACE) == ()
        assert len(made) == 1
        top = Record(Kind.SETATTR, 0, b"", meta=DIR._replace(mtime_ns=7))
        assert await replica.apply(top) == ()
        assert await replica.at_rest() == ["f"]
        assert replica.root.stat().st_mtime_ns == 7, "the times before the private directory was made were put back"


async def test_it_goes_when_the_sink_closes(tmp_path: Path, open_at: OpenAt) -> None:
    root = tmp_path / "backup" / "data"
    async with open_at(tmp_path / "backup", root, said=[]) as sink:
        await sink.apply(Batch(1, [REPLACE, REPLACE]))
        assert own(root).exists()
    assert os.listdir(root) == ["f"]


async def test_it_goes_when_a_batch_breaks_off(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """After which there may be no flush."""
    await replica.apply(REPLACE)

    def write_all(fd: int, data: bytes, offset: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(objects, "write_all", write_all)
    with pytest.raises(StopRule):
        await replica.apply(REPLACE)
    assert os.listdir(replica.root) == ["f"]


async def test_it_goes_though_memory_is_lacking_for_a_moment(
    tmp_path: Path, open_at: OpenAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other flush may follow: an idle rule makes none for a long time."""
    root = tmp_path / "backup" / "data"
    real, lacks = os.rmdir, 2

    def rmdir(*path: Any, **more: Any) -> None:
        nonlocal lacks
        if lacks:
            lacks -= 1
            raise OSError(errno.ENOMEM, "no memory now")
        real(*path, **more)

    async with open_at(tmp_path / "backup", root, said=[]) as sink:
        await sink.apply(Batch(1, [REPLACE, REPLACE]))
        monkeypatch.setattr(os, "rmdir", rmdir)
        await sink.flush()
        assert os.listdir(root) == ["f"]
    assert not lacks


@pytest.mark.parametrize("whose", ["the same sink", "the sink of the rule's other channel"])
async def test_a_flush_leaves_it_to_a_batch_that_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    root = tmp_path / "backup" / "data"
    context = SinkContext(roots=(os.fsencode(root),), allowed=(os.fsencode(root.parent),), secret=SECRET)
    real = durable.write_all
    async with open_fs(NoConfig(), context) as sink, open_fs(NoConfig(), context) as other:
        assert (await sink.apply(Batch(1, [REPLACE, REPLACE]))).failures == ()
        flushing = sink if whose == "the same sink" else other

        def write_all(fd: int, data: bytes, offset: int) -> None:
            trio.from_thread.run(flushing.flush)
            real(fd, data, offset)

        monkeypatch.setattr(objects, "write_all", write_all)
        assert (await sink.apply(Batch(3, [REPLACE, REPLACE]))).failures == ()
        assert (root / "f").read_bytes() == b"x"
        assert own(root).exists()
        await flushing.flush()
        assert os.listdir(root) == ["f"]


async def test_staging_files_are_found_after_a_restart(tmp_path: Path, open_at: OpenAt) -> None:
    root, base = tmp_path / "backup" / "data", tmp_path / "backup"
    async with open_at(base, root, said=[]) as sink:
        await sink.apply(Batch(1, [Record(Kind.MKDIR, 0, b"d", meta=DIR), STAGE, WRITE]))
    context = SinkContext(roots=(os.fsencode(root),), allowed=(os.fsencode(base),), secret=b"another")
    async with open_fs(NoConfig(), context) as stranger:
        assert await stranger.hashes(Place(0, b"d/f"), 0, 9, staged=True) == b"", "the name depends on the secret"
    async with open_at(base, root, said=[]) as sink:
        assert len(await sink.hashes(Place(0, b"d/f"), 0, 9, staged=True)) == 16
        again = [Record(Kind.STAGE, 0, b"d/f", size=1), PUBLISH]
        assert (await sink.apply(Batch(4, again))).failures == ()
        assert (root / "d/f").read_bytes() == LARGE
    assert os.listdir(root) == ["d"]


async def test_staging_files_go_with_their_directory(replica: Replica) -> None:
    many = [Record(Kind.MKDIR, 0, name, meta=DIR) for name in (b"d", b"d/e", b"other")]
    deep = [record._replace(path=b"d/e/f") for record in (STAGE, WRITE)]
    await replica.apply(*many, *deep, Record(Kind.RENAME, 0, b"d", other=b"other/d"))
    await replica.apply(Record(Kind.RENAME, 0, b"d", other=b"other/d"))  # told again
    assert await replica.apply(PUBLISH._replace(path=b"other/d/e/f")) == ()
    assert (replica.root / "other/d/e/f").read_bytes() == LARGE
    await replica.apply(*(record._replace(path=b"other/d/e/g") for record in (STAGE, WRITE)))
    assert own(replica.root).exists()
    assert await replica.apply(Record(Kind.REMOVE, 0, b"other")) == ()
    assert await replica.at_rest() == []


async def test_a_file_that_is_staged_in_the_place_of_a_directory_does_not_go_with_it(replica: Replica) -> None:
    stage, write, publish = (each._replace(path=b"d") for each in (STAGE, WRITE, PUBLISH))
    assert await replica.apply(Record(Kind.MKDIR, 0, b"d", meta=DIR), stage, write) == ()
    assert await replica.apply(Record(Kind.RENAME, 0, b"d", other=b"e"), publish) == ()
    assert (replica.root / "d").read_bytes() == LARGE
    assert await replica.at_rest() == ["d", "e"]


async def test_a_file_is_staged_where_a_directory_was_and_the_other_way_round(replica: Replica) -> None:
    await replica.apply(Record(Kind.MKDIR, 0, b"d", meta=DIR), STAGE, WRITE)
    await replica.apply(Record(Kind.REMOVE, 0, b"d", staged=True))
    above = [record._replace(path=b"d") for record in (STAGE, WRITE)]
    assert await replica.apply(STAGE, *above) == ()
    assert await replica.apply(STAGE, WRITE, PUBLISH) == ()
    assert (replica.root / "d/f").read_bytes() == LARGE
    assert await replica.at_rest() == ["d"]


async def test_what_nobody_goes_on_with_is_tidied_with_its_directory(replica: Replica) -> None:
    """Also beneath a directory that the replica does not have any more."""
    names = [b"d", b"d/gone", b"d/kept"]
    await replica.apply(*(Record(Kind.MKDIR, 0, name, meta=DIR) for name in names))
    for name in (b"d/wanted", b"d/unwanted", b"d/gone/x", b"d/kept/x"):
        await replica.apply(STAGE._replace(path=name))
    (replica.root / "d" / "gone").rmdir()
    (seen,) = await replica.sink.look([Ask(Place(0, b"d"), (), every=True)])
    assert seen.leftovers
    assert await replica.sink.tidy(Place(0, b"d"), [b"wanted"])
    left = {path.name for path in own(replica.root).rglob("*") if path.is_file()}
    assert left == {"wanted", "x"}
    await replica.sink.unstage([Place(0, b"d/kept")])
    left = {path.name for path in own(replica.root).rglob("*") if path.is_file()}
    assert left == {"wanted"}


@pytest.mark.parametrize("kind", [Kind.CREATE, Kind.PUBLISH, Kind.LINK, Kind.RENAME, Kind.SYMLINK, Kind.REMOVE])
async def test_what_is_staged_beneath_a_directory_goes_with_it(replica: Replica, kind: Kind) -> None:
    """By whatever kind of record the directory goes; and what is staged beside it stays."""
    beside = Record(Kind.STAGE, 0, b"beside")
    create = Record(Kind.CREATE, 0, b"a", meta=FILE)
    await replica.apply(create, Record(Kind.MKDIR, 0, b"d", meta=DIR), STAGE, beside)
    records = {
        Kind.CREATE: [Record(Kind.CREATE, 0, b"d", meta=FILE)],
        Kind.PUBLISH: [STAGE._replace(path=b"d"), PUBLISH._replace(path=b"d")],
        Kind.LINK: [Record(Kind.LINK, 0, b"d", other=b"a")],
        Kind.RENAME: [Record(Kind.RENAME, 0, b"a", other=b"d")],
        Kind.SYMLINK: [Record(Kind.SYMLINK, 0, b"d", other=b"a")],
        Kind.REMOVE: [Record(Kind.REMOVE, 0, b"d")],
    }
    assert await replica.apply(*records[kind]) == ()
    assert {path.name for path in own(replica.root).rglob("*") if path.is_file()} == {"beside"}


async def test_what_is_staged_for_a_directory_that_is_gone_can_be_removed(replica: Replica) -> None:
    await replica.apply(Record(Kind.MKDIR, 0, b"d", meta=DIR), STAGE, WRITE)
    await replica.sink.set_aside(Place(0, b"d"), os.fsencode(replica.root.parent / "aside"))
    assert await replica.apply(Record(Kind.REMOVE, 0, b"d/f", staged=True)) == ()
    assert await replica.at_rest() == []
    await replica.apply(Record(Kind.MKDIR, 0, b"d", meta=DIR), STAGE, WRITE)
    (replica.root / "d").rmdir()
    for path in (b"d/..", b"..", b"d/../../x"):
        (failure,) = await replica.apply(Record(Kind.REMOVE, 0, path, staged=True))
        assert failure.code is Code.ILLEGAL_PATH


async def test_what_is_staged_beneath_a_closed_directory_can_be_removed(replica: Replica) -> None:
    """Without root, too."""
    await replica.apply(Record(Kind.MKDIR, 0, b"d", meta=DIR), Record(Kind.MKDIR, 0, b"d/e", meta=DIR))
    await replica.apply(STAGE._replace(path=b"d/e/f"))
    (replica.root / "d").chmod(0)
    await replica.sink.unstage([Place(0, b"d/e")])
    assert os.listdir(replica.root) == ["d"]
    (replica.root / "d").chmod(0o755)


async def test_all_that_is_staged_can_be_dropped(tmp_path: Path, open_at: OpenAt) -> None:
    """Also by a process that has staged none of it."""
    root, base = tmp_path / "backup" / "data", tmp_path / "backup"
    async with open_at(base, root, said=[]) as sink:
        deep = [Record(Kind.MKDIR, 0, b"d", meta=DIR), STAGE, WRITE, STAGE._replace(path=b"f")]
        await sink.apply(Batch(1, deep))
        os.utime(root, ns=(5, 5))
    async with open_at(base, root, said=[]) as sink:
        await sink.unstage([Place(0, b"")])
        assert os.listdir(root) == ["d"]
        assert root.stat().st_mtime_ns == 5
        assert (await sink.apply(Batch(5, [STAGE, WRITE, PUBLISH]))).failures == ()
    assert os.listdir(root) == ["d"]


async def test_what_another_session_has_staged_goes_with_its_directory(tmp_path: Path) -> None:
    """A later session has taken the place of the one that staged it, and has had no private directory since it removed
    an empty one."""
    root = tmp_path / "data"
    context = SinkContext(roots=(os.fsencode(root),), allowed=(os.fsencode(tmp_path),), secret=bytes(32))
    async with open_fs(NoConfig(), context) as earlier, open_fs(NoConfig(), context) as later:
        await later.apply(Batch(1, [Record(Kind.CREATE, 0, b"f", meta=FILE)] * 2))
        await later.flush()
        await earlier.apply(Batch(3, [Record(Kind.MKDIR, 0, b"d", meta=DIR), STAGE, WRITE]))
        await later.apply(Batch(6, [Record(Kind.REMOVE, 0, b"d")]))
        await later.flush()
        assert os.listdir(root) == ["f"]


@pytest.mark.root
async def test_another_file_system_in_a_replica_has_its_own(small_disk: Path, open_at: OpenAt) -> None:
    above = small_disk.parent
    mount = os.fsencode(small_disk.name)
    records = [record._replace(path=mount + b"/d/f") for record in (STAGE, WRITE, PUBLISH)]
    async with open_at(above, above, said=[]) as sink:
        await sink.apply(Batch(1, [Record(Kind.MKDIR, 0, mount + b"/d", meta=DIR)]))
        for turn in range(2):
            assert (await sink.apply(Batch(2 + 3 * turn, records[:2]))).failures == ()
            assert own(small_disk, Names(SECRET, [os.fsencode(above)])).is_dir()
            assert not own(above).exists()
            assert (await sink.apply(Batch(4 + 3 * turn, records[2:]))).failures == ()
        assert (await sink.apply(Batch(8, [Record(Kind.CREATE, 0, mount + b"/d/f", meta=FILE)]))).failures == ()
        assert sorted(os.listdir(small_disk)) == ["d", "lost+found"]


@pytest.mark.root
async def test_a_directory_that_rename_does_not_reach(replica: Replica) -> None:
    """A bind mount: the same file system, and EXDEV."""
    await replica.apply(Record(Kind.MKDIR, 0, b"d", meta=DIR), Record(Kind.MKDIR, 0, b"other", meta=DIR))
    bind = ["mount", "--bind", str(replica.root / "other"), str(replica.root / "d")]
    if subprocess.run(bind, check=False).returncode:  # noqa: S603
        pytest.skip("this host cannot bind mounts")
    try:
        assert await replica.apply(Record(Kind.MKDIR, 0, b"d", meta=DIR)) == (), "as a compare has it sent"
        for _ in range(2):
            assert await replica.apply(STAGE, WRITE) == ()
            assert await replica.apply(PUBLISH) == ()
            assert await replica.apply(Record(Kind.CREATE, 0, b"d/g", meta=FILE, data=b"x")) == ()
            assert await replica.apply(Record(Kind.SYMLINK, 0, b"d/l", other=b"x", meta=None)) == ()
            assert await replica.apply(Record(Kind.LINK, 0, b"d/l", other=b"d/g")) == ()
        assert sorted(os.listdir(replica.root / "d")) == ["f", "g", "l"]
        assert await replica.at_rest() == ["d", "other"]
    finally:
        subprocess.run(["umount", replica.root / "d"], check=True)  # noqa: S603, S607


# ------------------------------------------------------------------------------------------------ times

LOWEST = -(2**31)
DISKS: list[tuple[str, list[str], dict[int, int], str]] = [
    ("ext4", ["-q", "-I", "128"], {2**31 * 10**9: (2**31 - 1) * 10**9, 5 * 10**9 + 7: 5 * 10**9}, "finer than 1 s"),
    (
        "ext4",
        ["-q", "-I", "256"],
        {LOWEST * 10**9 + 1: LOWEST * 10**9, LOWEST * 10**9 + 10**9 + 1: LOWEST * 10**9 + 10**9 + 1},
        "before 1901",
    ),
    ("vfat", [], {10**18 + 10**9 + 5: 10**18}, "finer than 2 s"),
    ("xfs", ["-m", "bigtime=0"], {2**31 * 10**9: (2**31 - 1) * 10**9, 7: 7}, "after 2038"),
]


@pytest.mark.root
@pytest.mark.parametrize(
    ("kind", "options", "kept", "words"), DISKS, ids=[" ".join([disk[0], *disk[1]]) for disk in DISKS]
)
async def test_times_that_the_file_system_cannot_hold(
    mounted: Callable[..., Path], open_at: OpenAt, kind: str, options: list[str], kept: dict[int, int], words: str
) -> None:
    disk = mounted(kind, *options)
    said: list[str] = []
    async with open_at(disk, disk / "data", said=said) as sink:
        for turn in range(2):
            times = enumerate(kept)
            records = [Record(Kind.CREATE, 0, b"%d" % n, meta=FILE._replace(mtime_ns=time)) for n, time in times]
            await sink.apply(Batch(1 + turn * len(records), records))
        (seen,) = await sink.look([Ask(Place(0, b""), [b"%d" % n for n in range(len(kept))])])
    for entry, (wanted, got) in zip(seen.entries, kept.items(), strict=True):
        assert entry is not None
        assert entry.mtime_ns == got == seen.times.kept(wanted)
    told = [line for line in said if "modification times" in line]
    assert any(words in line and "3608" in line for line in told)
    assert len(told) == len(set(told))
