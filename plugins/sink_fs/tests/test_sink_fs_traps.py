"""What outsiders do to a replica between two batches, and within one."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from i2_sink_fs import paths

from i2core.api import Code, Kind, Meta, Place, Record, StopRule, UsageError, syscalls
from i2core.api.drivers import Ask, Seen

if TYPE_CHECKING:
    from conftest import OpenAt, Replica

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
        monkeypatch.setattr(paths, "open_beneath", syscalls.walk_beneath)
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


async def test_staging_name_taken_by_traps(replica: Replica) -> None:
    name = os.fsdecode(paths.staging_name(b"f"))
    traps: list[Callable[[Path], object]] = [
        lambda trap: trap.symlink_to(replica.outside / "kept"),
        lambda trap: trap.mkdir(),
        os.mkfifo,
    ]
    for trap in traps:
        trap(replica.root / name)
        with trio.fail_after(10):
            failures = await replica.apply(
                Record(Kind.STAGE, 0, b"f"),
                Record(Kind.WRITE, 0, b"f", data=b"data", staged=True),
                Record(Kind.PUBLISH, 0, b"f", size=4, meta=FILE),
            )
        assert failures == ()
        assert (replica.root / "f").read_bytes() == b"data"
        assert os.listdir(replica.root) == ["f"]


async def test_leftover_that_is_a_second_name_of_a_good_file(replica: Replica) -> None:
    """A crash between link(2) and rename(2) leaves one; the next CREATE must not write into the good file."""
    await replica.apply(
        Record(Kind.CREATE, 0, b"good", meta=FILE, data=b"good"), Record(Kind.CREATE, 0, b"x", meta=FILE, data=b"old")
    )
    os.link(replica.root / "good", replica.root / os.fsdecode(paths.passing_name(b"x")))
    assert await replica.apply(Record(Kind.CREATE, 0, b"x", meta=FILE, data=b"new")) == ()
    assert (replica.root / "good").read_bytes() == b"good"
    assert sorted(os.listdir(replica.root)) == ["good", "x"]


async def test_root_taken_away_stops_the_rule(replica: Replica) -> None:
    record = Record(Kind.CREATE, 0, b"kept", meta=FILE, data=b"evil")
    replica.root.rename(replica.root.parent / "was")
    with pytest.raises(StopRule) as stopped:
        await replica.apply(record)
    assert (stopped.value.code, stopped.value.obj) == (Code.OPEN_REPLICA, str(replica.root))
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
    fd = os.open(tmp_path, paths.DIRECTORY)
    try:
        for opener in (syscalls.open_beneath, syscalls.walk_beneath):
            os.close(opener(fd, b"d/sub", paths.DIRECTORY))
            for path in (b"l", b"l/sub", b"d/abs", b"d/abs/etc", b"missing", b"d/missing/x"):
                with pytest.raises(OSError, match="Errno"):
                    opener(fd, path, paths.DIRECTORY)
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
