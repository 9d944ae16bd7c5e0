"""What outsiders do to a replica between two batches, and within one."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from i2_sink_fs import attributes, directories, paths, roots

from i2core.api import Code, Kind, Meta, Place, Record, StopRule, UsageError
from i2core.api.drivers import Ask, Seen
from i2core.posix import syscalls
from i2core.posix.opening import DIRECTORY
from i2core.posix.syscalls import born_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import OpenAt, OpenReplica, Replica

FILE = Meta(stat.S_IFREG | 0o644, os.geteuid(), os.getegid(), 1, ())
DIR = FILE._replace(mode=stat.S_IFDIR | 0o755)
FIFO = FILE._replace(mode=stat.S_IFIFO | 0o600)


def of_each_kind(path: bytes) -> list[Record]:
    return [
        Record(Kind.CREATE, 0, path, meta=FILE, data=b"evil"),
        Record(Kind.STAGE, 0, path),
        Record(Kind.WRITE, 0, path, data=b"evil"),
        Record(Kind.WRITE, 0, path, data=b"evil", staged=True),
        Record(Kind.PUNCH, 0, path, size=9),
        Record(Kind.TRUNCATE, 0, path, size=0),
        Record(Kind.PUBLISH, 0, path, size=0, meta=FILE),
        Record(Kind.MKDIR, 0, path, meta=DIR),
        Record(Kind.SYMLINK, 0, path, other=b"x"),
        Record(Kind.MKNOD, 0, path, meta=FIFO),
        Record(Kind.LINK, 0, path, other=b"good"),
        Record(Kind.LINK, 0, b"linked", other=path),
        Record(Kind.RENAME, 0, b"good", other=path),
        Record(Kind.RENAME, 0, path, other=b"moved"),
        Record(Kind.SETATTR, 0, path, meta=FILE._replace(mode=stat.S_IFREG)),
    ]


async def test_directory_becomes_a_symlink_between_batches(replica: Replica) -> None:
    await replica.apply(
        Record(Kind.MKDIR, 0, b"d", meta=DIR),
        Record(Kind.CREATE, 0, b"d/kept", meta=FILE, data=b"inside"),
        Record(Kind.CREATE, 0, b"good", meta=FILE),
    )
    (replica.root / "d").rename(replica.root / "was")
    (replica.root / "d").symlink_to(replica.outside)
    records = of_each_kind(b"d/kept")
    failures = await replica.apply(*records, Record(Kind.REMOVE, 0, b"d/kept"))
    assert [f.seq for f in failures] == list(range(4, 4 + len(records)))
    assert all(f.repair and f.code is Code.OPEN_REPLICA for f in failures)
    assert (replica.root / "was" / "kept").read_bytes() == b"inside"
    assert await replica.sink.hashes(Place(0, b"d/kept"), 0, 9) == b""
    assert await replica.sink.look([Ask(Place(0, b"d"), [b"kept"], every=True)]) == [Seen(None, [None], ())]
    await replica.sink.set_aside(Place(0, b"d/kept"), os.fsencode(replica.root.parent / "aside"))
    assert (replica.outside / "kept").exists()


@pytest.mark.parametrize("walk", [False, True], ids=["openat2", "component walk"])
async def test_symlink_made_in_the_same_batch(replica: Replica, monkeypatch: pytest.MonkeyPatch, walk: bool) -> None:
    if walk:
        for module in (paths, roots, directories):
            monkeypatch.setattr(module, "open_beneath", syscalls.walk_beneath)
    outside = os.fsencode(replica.outside)
    failures = await replica.apply(
        Record(Kind.MKDIR, 0, b"d", meta=DIR),
        Record(Kind.CREATE, 0, b"d/a", meta=FILE),
        Record(Kind.SYMLINK, 0, b"l", other=outside),
        Record(Kind.RENAME, 0, b"l", other=b"d"),
        Record(Kind.CREATE, 0, b"d/kept", meta=FILE, data=b"evil"),
        Record(Kind.MKDIR, 0, b"e", meta=DIR),
        Record(Kind.MKDIR, 0, b"e/deep", meta=DIR),
        Record(Kind.CREATE, 0, b"e/deep/f", meta=FILE),
        Record(Kind.REMOVE, 0, b"e"),
        Record(Kind.SYMLINK, 0, b"e", other=outside + b"/.."),
        Record(Kind.CREATE, 0, b"e/outside/kept", meta=FILE, data=b"evil"),
        Record(Kind.REMOVE, 0, b"e/outside/kept"),
    )
    assert [f.seq for f in failures] == [5, 11]
    assert os.readlink(replica.root / "d") == str(replica.outside)


async def test_final_component_is_never_followed(replica: Replica) -> None:
    for record in [*of_each_kind(b"l"), Record(Kind.REMOVE, 0, b"l")]:
        await replica.apply(Record(Kind.CREATE, 0, b"good", meta=FILE))
        link = replica.root / "l"
        if os.path.lexists(link):
            await replica.apply(Record(Kind.REMOVE, 0, b"l"))
        link.symlink_to(replica.outside / "kept")
        await replica.apply(record)
        assert (replica.outside / "kept").read_text() == "kept", record
        assert stat.S_IMODE((replica.outside / "kept").stat().st_mode) != 0, record


async def test_root_that_cannot_be_opened_stops_the_rule(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(roots, "open_beneath", refuse)
    with pytest.raises(StopRule) as stopped:
        await replica.apply(Record(Kind.CREATE, 0, b"x", meta=FILE, data=b"x"))
    assert (stopped.value.code, stopped.value.obj) == (Code.OPEN_REPLICA, str(replica.root))


async def test_root_taken_away_stops_the_rule(replica: Replica) -> None:
    record = Record(Kind.CREATE, 0, b"kept", meta=FILE, data=b"evil")
    replica.root.rename(replica.root.parent / "was")
    with pytest.raises(StopRule) as stopped:
        await replica.apply(record)
    assert (stopped.value.code, stopped.value.obj) == (Code.REPLICA_GONE, str(replica.root))
    replica.root.symlink_to(replica.outside)
    with pytest.raises(StopRule):
        await replica.apply(record)
    with pytest.raises(StopRule):
        await replica.sink.look([Ask(Place(0, b""), [b"kept"])])
    assert os.listdir(replica.root.parent / "was") == []


async def test_roots_are_made_and_never_through_symlinks(tmp_path: Path, open_at: OpenAt) -> None:
    allowed = tmp_path / "backup"
    (tmp_path / "name").symlink_to(allowed)  # the administrator's own way to the allowed directory
    async with open_at(tmp_path / "name", tmp_path / "name" / "a" / "b", said=[]):
        assert stat.S_IMODE((allowed / "a" / "b").stat().st_mode) == 0o755
    (tmp_path / "elsewhere").mkdir()
    (allowed / "trap").symlink_to(tmp_path / "elsewhere")
    for wrong in (allowed / "trap", allowed / "trap" / "x", tmp_path / "elsewhere", allowed / ".." / "elsewhere"):
        with pytest.raises(UsageError) as refused:
            async with open_at(allowed, wrong, said=[]):
                pass
        assert refused.value.code is Code.ILLEGAL_PATH
    assert os.listdir(tmp_path / "elsewhere") == []


def test_openat2_refuses_what_the_walk_refuses(tmp_path: Path) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "l").symlink_to("d")
    (tmp_path / "d" / "abs").symlink_to("/")
    fd = os.open(tmp_path, DIRECTORY)
    try:
        for opener in (syscalls.open_beneath, syscalls.walk_beneath):
            os.close(opener(fd, b"d/sub", DIRECTORY))
            for path in (b"l", b"l/sub", b"d/abs", b"d/abs/etc", b"missing", b"d/missing/x"):
                with pytest.raises(OSError, match="Errno"):
                    opener(fd, path, DIRECTORY)
    finally:
        os.close(fd)


async def test_trees_deeper_than_a_path_can_be_long(replica: Replica) -> None:
    path = b"/".join([b"n" * 200] * 30)
    parts = path.split(b"/")
    chain = [Record(Kind.MKDIR, 0, b"/".join(parts[: n + 1]), meta=DIR) for n in range(len(parts))]
    assert await replica.apply(*chain, Record(Kind.CREATE, 0, path + b"/f", meta=FILE, data=b"deep")) == ()
    assert await replica.sink.count(Place(0, b""), 9) == 1
    (seen,) = await replica.sink.look([Ask(Place(0, path), [b"f"])])
    assert seen.entries[0] is not None and seen.entries[0].size == 4
    assert await replica.apply(Record(Kind.REMOVE, 0, parts[0])) == ()
    assert os.listdir(replica.root) == []


async def test_remove_has_no_depth_limit(replica: Replica) -> None:
    """1500 levels: more than open files are allowed, and than Python recurses."""
    fd = os.open(replica.root, os.O_PATH)
    for _ in range(1500):
        os.mkdir(b"d", dir_fd=fd)
        deeper = os.open(b"d", os.O_PATH, dir_fd=fd)
        os.symlink(replica.outside, b"l", dir_fd=deeper)
        os.close(fd)
        fd = deeper
    os.close(fd)
    assert await replica.apply(Record(Kind.REMOVE, 0, b"d")) == ()
    assert os.listdir(replica.root) == []


async def test_fifo_and_device_in_the_way_of_a_write(replica: Replica) -> None:
    os.mkfifo(replica.root / "p")
    with trio.fail_after(10):
        failures = await replica.apply(
            Record(Kind.WRITE, 0, b"p", data=b"x"),
            Record(Kind.TRUNCATE, 0, b"p", size=1),
            Record(Kind.CREATE, 0, b"p", meta=FILE, data=b"y"),
        )
    assert [(f.seq, f.repair) for f in failures] == [(1, True), (2, True)]
    assert (replica.root / "p").read_bytes() == b"y"


IN_PLACE = [
    Record(Kind.WRITE, 0, b"f", data=b"SECRET"),
    Record(Kind.PUNCH, 0, b"f", size=3),
    Record(Kind.TRUNCATE, 0, b"f"),
]
KEPT = b"of somebody else"


async def swapped(replica: Replica, records: list[Record]) -> None:
    """Each is refused, and the file that was put there is as it was."""
    for record in records:
        (failure,) = await replica.apply(record)
        assert (failure.repair, failure.code) == (True, Code.OPEN_REPLICA)
        assert (replica.root / "f").read_bytes() == KEPT


@pytest.mark.parametrize("known_by", ["a write", "a compare", "a rename"])
async def test_a_file_that_was_swapped_is_not_written_into(replica: Replica, known_by: str) -> None:
    """Another file of the same owner, mode and size."""
    name = b"before" if known_by == "a rename" else b"f"
    create = Record(Kind.CREATE, 0, name, meta=FILE, data=KEPT)
    assert await replica.apply(create) == ()
    if known_by == "a compare":
        await replica.sink.hashes_of([Place(0, name)], 1)
    else:
        assert await replica.apply(Record(Kind.WRITE, 0, name, data=b"of", meta=FILE)) == ()
    if known_by == "a rename":
        assert await replica.apply(Record(Kind.RENAME, 0, name, other=b"f")) == ()
    for record in IN_PLACE:
        (replica.root / "swap").write_bytes(KEPT)
        (replica.root / "swap").rename(replica.root / "f")
        await swapped(replica, [record])
        await replica.sink.hashes(Place(0, b"f"), 0, 1)  # what is compared is the right one from then on
    assert await replica.apply(IN_PLACE[0]) == ()


@pytest.fixture
def shared(replica: Replica) -> Path:
    """The top directory is one in which others may give names."""
    replica.root.chmod(0o777)
    return replica.root


@pytest.mark.root
async def test_a_file_of_another_user_is_not_written_into(replica: Replica, shared: Path) -> None:
    """Nothing is known of it but what the source says. Refused once it is not taken for the right one by what follows:
    it would belong to the file's owner then, and the user would have it open."""
    (shared / "f").write_bytes(KEPT)
    os.chown(shared / "f", 65534, 65534)
    first = IN_PLACE[0]._replace(meta=FILE)
    failures = await replica.apply(first, *IN_PLACE, Record(Kind.SETATTR, 0, b"f", meta=FILE))
    assert [failure.repair for failure in failures] == [True] * 5
    assert ((shared / "f").read_bytes(), (shared / "f").stat().st_uid) == (KEPT, 65534)
    await replica.sink.hashes(Place(0, b"f"), 0, 1)
    theirs = FILE._replace(uid=65534, gid=65534)
    assert await replica.apply(IN_PLACE[0]._replace(meta=theirs)) == ()


@pytest.mark.root
@pytest.mark.parametrize("uid", [0, 65534])
async def test_where_owners_cannot_be_set_each_file_is_the_daemons(
    open_replica: OpenReplica, monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    """Whoever has it on the source."""
    monkeypatch.setattr(attributes, "can_chown", lambda: False)
    meta = FILE._replace(uid=uid, gid=uid)
    records = [Record(Kind.SETATTR, 0, b"f", meta=meta), *(record._replace(meta=meta) for record in IN_PLACE)]
    async with open_replica() as replica:
        replica.root.chmod(0o777)
        assert await replica.apply(Record(Kind.CREATE, 0, b"f", meta=meta, data=KEPT), *records) == ()
        (replica.root / "f").unlink()
        (replica.root / "f").write_bytes(KEPT)
        os.chown(replica.root / "f", 65534, 65534)
        await replica.sink.hashes(Place(0, b"f"), 0, 1)
        await swapped(replica, records)
        (seen,) = await replica.sink.look([Ask(Place(0, b""), [b"f"])])
        assert seen.own == 0


@pytest.mark.root
async def test_a_file_with_the_inode_number_of_the_right_one_is_not_written_into(
    mounted: Callable[..., Path], open_replica: OpenReplica
) -> None:
    async with open_replica(mounted("ext4", "-q", "-I", "256")) as replica:
        assert await replica.apply(Record(Kind.CREATE, 0, b"f", meta=FILE, data=KEPT)) == ()
        await replica.sink.hashes(Place(0, b"f"), 0, 1)
        path = replica.root / "f"
        inode, born = path.stat().st_ino, born_of(path)
        while born_of(path) == born:
            path.unlink()
            path.write_bytes(KEPT)
        assert path.stat().st_ino == inode
        await swapped(replica, IN_PLACE)


@pytest.mark.root
@pytest.mark.parametrize("deep", [b"home/d/f", b"home/d/e/f"])
async def test_a_file_in_a_directory_that_was_exchanged_is_not_written_into(replica: Replica, deep: bytes) -> None:
    """A user has made the directory, with the file, in his own one. It has become root's by the attributes since."""
    replica.root.chmod(0o755)
    theirs = DIR._replace(uid=65534, gid=65534)
    assert await replica.apply(Record(Kind.MKDIR, 0, b"home", meta=theirs)) == ()
    path = replica.root / os.fsdecode(deep)
    path.parent.mkdir(parents=True)
    path.write_bytes(KEPT)
    os.chown(path, 65534, 65534)
    above = Place(0, os.fsencode(path.parent.relative_to(replica.root)))
    for record in (Record(Kind.SETATTR, 0, deep, meta=FILE), *IN_PLACE):
        (failure,) = await replica.apply(record._replace(path=deep, meta=FILE))
        assert (failure.repair, path.read_bytes(), path.stat().st_uid) == (True, KEPT, 65534)
        await replica.sink.hashes(Place(0, deep), 0, 1)
        assert [seen.sheltered for seen in await replica.sink.look([Ask(above, [])])] == [False]
    os.chown(replica.root / "home", 0, 0)
    assert [seen.sheltered for seen in await replica.sink.look([Ask(above, [])])] == [True]
    assert await replica.apply(Record(Kind.SETATTR, 0, deep, meta=FILE)) == ()


def born_of(path: Path) -> int:
    with path.open("rb") as file:
        return born_ns(file.fileno())


async def test_a_file_that_more_people_may_read_is_not_written_into(replica: Replica, shared: Path) -> None:
    """A user may give one file of another the name of another one of his, where the directory is the user's own."""
    private = FILE._replace(mode=stat.S_IFREG | 0o600)
    for record in IN_PLACE:
        await replica.apply(Record(Kind.CREATE, 0, b"f", meta=FILE, data=KEPT))
        await swapped(replica, [record._replace(meta=private)])
    await replica.apply(Record(Kind.CREATE, 0, b"f", meta=private._replace(mode=stat.S_IFREG | 0o400), data=KEPT))
    assert await replica.apply(IN_PLACE[0]._replace(meta=private)) == ()


@pytest.mark.root
@pytest.mark.parametrize("guarded", [True, False])
async def test_a_file_of_another_user_becomes_nobodys_else_by_its_attributes(replica: Replica, guarded: bool) -> None:
    """Set-user-ID and all: unless the source knows whose it was, or no user can have put it there."""
    (replica.root / "f").write_bytes(KEPT)
    os.chown(replica.root / "f", 65534, 65534)
    replica.root.chmod(0o755 if guarded else 0o1777)
    meta = FILE._replace(mode=stat.S_IFREG | 0o4755)
    record = Record(Kind.SETATTR, 0, b"f", meta=meta)
    if not guarded:
        await swapped(replica, [record, record._replace(offset=5)])
        assert (replica.root / "f").stat().st_uid == 65534
        record = record._replace(offset=65535)
    assert await replica.apply(record) == ()
    assert (replica.root / "f").stat().st_mode == stat.S_IFREG | 0o4755
