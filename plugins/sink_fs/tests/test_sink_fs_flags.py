"""Inode flags and project ids, on file systems of several kinds: they are set, and are never in a record's way."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from i2core.api import Ask, Batch, Failure, Kind, Meta, Place, Record, Seen, Sink

if TYPE_CHECKING:
    from conftest import OpenReplica, Replica

pytestmark = pytest.mark.root

BITS = {
    "c": 0x4,
    "S": 0x8,
    "i": 0x10,
    "a": 0x20,
    "d": 0x40,
    "A": 0x80,
    "m": 0x400,
    "D": 0x10000,
    "C": 0x800000,
    "P": 0x20000000,
}
FILE, DIRECTORY = Meta(stat.S_IFREG | 0o640, 0, 0, 10**18), Meta(stat.S_IFDIR | 0o750, 0, 0, 10**18)


def flagged(meta: Meta, letters: str = "", project: int = 0) -> Meta:
    """With these flags, and no attributes."""
    return meta._replace(flags=sum(BITS[letter] for letter in letters) << 32 | project, xattrs=())


def create(path: bytes, letters: str = "", project: int = 0, data: bytes = b"content") -> Record:
    return Record(Kind.CREATE, 0, path, meta=flagged(FILE, letters, project), data=data)


def mkdir(path: bytes, letters: str = "", project: int = 0) -> Record:
    return Record(Kind.MKDIR, 0, path, meta=flagged(DIRECTORY, letters, project))


def lsattr(path: Path) -> str:
    """The letters of an object's flags, without those that say how a file system keeps it."""
    done = subprocess.run(["lsattr", "-d", path], check=True, capture_output=True, text=True)  # noqa: S603, S607
    return "".join(sorted(set(done.stdout.split()[0]) & BITS.keys()))


def project(path: Path) -> int:
    """The project that an object is counted for."""
    done = subprocess.run(["lsattr", "-pd", path], check=True, capture_output=True, text=True)  # noqa: S603, S607
    return int(done.stdout.split()[0])


def unpin(tree: Path) -> None:
    subprocess.run(["chattr", "-R", "-f", "-i", "-a", tree], check=False, capture_output=True)  # noqa: S603, S607


@pytest.fixture(autouse=True)
def _unpinned(tmp_path: Path) -> Iterator[None]:
    yield
    unpin(tmp_path)


async def seen(sink: Sink, path: bytes = b"", *names: bytes) -> Seen:
    (found,) = await sink.look([Ask(Place(0, path), names)])
    return found


@pytest.mark.parametrize(
    ("kind", "of_files", "of_directories", "projects"),
    [("ext4", "AScdia", "DP", False), ("xfs", "ASdia", "P", True), ("btrfs", "ASdiamC", "D", False)],
)
async def test_each_file_system_gets_what_it_holds(
    mounted: Callable[..., Path],
    open_replica: OpenReplica,
    kind: str,
    of_files: str,
    of_directories: str,
    projects: bool,
) -> None:
    disk = mounted(kind)
    try:
        async with open_replica(disk, flags=True) as replica:
            for letter in BITS:
                of_file = letter if letter not in "DP" else ""
                assert (
                    await replica.apply(create(b"f" + letter.encode(), of_file), mkdir(b"d" + letter.encode(), letter))
                    == ()
                )
                assert lsattr(replica.root / f"f{letter}") == (of_file if letter in of_files else "")
                assert lsattr(replica.root / f"d{letter}") == (letter if letter in of_files + of_directories else "")
            assert await replica.apply(create(b"project", project=42)) == ()
            assert project(replica.root / "project") == (42 if projects else 0)
            lacking = set(BITS) - set(of_files) - set(of_directories)
            said = {word for line in replica.said for word in line.replace("(", " ").split() if word[0] == "+"}
            assert said == {f"+{letter}" for letter in lacking}
            assert sum("project ids" in line for line in replica.said) == (not projects)
            assert len(replica.said) == len(lacking) + (not projects)
            told = await seen(replica.sink)
            assert {letter for letter, bit in BITS.items() if told.flags >> 32 & bit} == set(BITS) - lacking
            assert bool(told.flags & 0xFFFFFFFF) is projects
            for letter in of_files:
                (entry,) = (await seen(replica.sink, b"", b"f" + letter.encode())).entries
                assert entry is not None and entry.flags == BITS[letter] << 32
    finally:
        unpin(disk)


async def test_a_file_that_is_written_in_place_gets_that_while_it_is_empty(
    mounted: Callable[..., Path], open_replica: OpenReplica
) -> None:
    async with open_replica(mounted("btrfs"), flags=True) as replica:
        meta = flagged(FILE, "C")
        await replica.apply(create(b"small", "C"), create(b"other"), create(b"other", "C"))
        await replica.apply(
            Record(Kind.STAGE, 0, b"large", meta=meta),
            Record(Kind.WRITE, 0, b"large", data=b"x" * 5000, staged=True),
            Record(Kind.PUBLISH, 0, b"large", meta=meta, size=5000),
        )
        assert [lsattr(replica.root / name) for name in ("small", "other", "large")] == ["C"] * 3
        assert (replica.root / "large").read_bytes() == b"x" * 5000


async def test_names_move_between_projects(mounted: Callable[..., Path], open_replica: OpenReplica) -> None:
    async with open_replica(mounted("xfs"), flags=True) as replica:
        root = replica.root
        staged = [
            Record(Kind.STAGE, 0, b"a/large"),
            Record(Kind.WRITE, 0, b"a/large", data=b"x" * 5000, staged=True),
            Record(Kind.PUBLISH, 0, b"a/large", meta=flagged(FILE, project=1), size=5000),
        ]
        failures = await replica.apply(
            mkdir(b"a", "P", 1),
            mkdir(b"b", "P", 2),
            create(b"out"),
            create(b"a/in", project=1),
            create(b"replaced", project=3),
            Record(Kind.RENAME, 0, b"out", other=b"a/out"),
            Record(Kind.RENAME, 0, b"a/in", other=b"b/in"),
            Record(Kind.LINK, 0, b"b/link", other=b"a/out"),
            Record(Kind.LINK, 0, b"b/in", other=b"replaced"),
            mkdir(b"tree"),
            create(b"tree/file"),
            Record(Kind.RENAME, 0, b"tree", other=b"a/tree"),
            create(b"a/other"),
            create(b"a/other", data=b"in the place of the one that was there"),
            *staged,
            create(b"plain"),
            Record(Kind.SETATTR, 0, b"a/out", meta=flagged(FILE, project=1)),
        )
        assert failures == ()
        assert (root / "a/other").read_bytes() == b"in the place of the one that was there"
        await replica.sink.flush()
        assert {path.name: project(path) for path in sorted(root.rglob("*"))} == {
            "a": 1,
            "b": 2,
            "file": 0,
            "in": 3,
            "large": 1,
            "link": 1,
            "other": 0,
            "out": 1,
            "plain": 0,
            "replaced": 3,
            "tree": 0,
        }


async def told_twice(replica: Replica, *records: Record) -> tuple[Failure, ...]:
    """The failures of records that are applied, and applied once more."""
    failures = await replica.apply(*records)
    applied = await replica.sink.apply(Batch(1, records))
    return failures + applied.failures


@pytest.mark.parametrize("pin", ["i", "a", "ia"])
async def test_no_pin_is_in_the_way(open_replica: OpenReplica, pin: str) -> None:
    async with open_replica(flags=True) as replica:
        root, pins = replica.root, "".join(sorted(pin))
        meta = flagged(FILE, pin)
        await replica.apply(
            Record(Kind.SETATTR, 0, b"", meta=flagged(DIRECTORY, pin)),
            mkdir(b"dir", pin),
            create(b"dir/file", pin),
            mkdir(b"dir/sub", pin),
            create(b"dir/sub/deep", pin),
            Record(Kind.SYMLINK, 0, b"dir/link", other=b"file", meta=Meta(stat.S_IFLNK | 0o777, 0, 0, 0)),
        )
        assert {lsattr(path) for path in (root, root / "dir", root / "dir/sub/deep")} == {pins}
        # In place, and replaced.
        failures = await told_twice(
            replica,
            Record(Kind.WRITE, 0, b"dir/file", offset=0, data=b"CON"),
            Record(Kind.TRUNCATE, 0, b"dir/file", size=5),
            Record(Kind.PUNCH, 0, b"dir/file", offset=4, size=1),
            Record(Kind.SETATTR, 0, b"dir/file", meta=meta._replace(mode=stat.S_IFREG | 0o600, uid=7)),
        )
        status = os.stat(root / "dir/file")
        assert (failures, (root / "dir/file").read_bytes()) == ((), b"CONt\0")
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime_ns) == (0o600, 7, 10**18)
        failures = await told_twice(
            replica,
            create(b"dir/file", pin, data=b"another"),
            Record(Kind.LINK, 0, b"second", other=b"dir/file"),
            Record(Kind.RENAME, 0, b"dir/sub/deep", other=b"dir/deep"),
            Record(Kind.STAGE, 0, b"dir/deep"),
            Record(Kind.WRITE, 0, b"dir/deep", data=b"large", staged=True),
            Record(Kind.PUBLISH, 0, b"dir/deep", meta=meta, size=5),
        )
        assert [failure for failure in failures if failure.place.path != b"dir/deep"] == []
        assert os.path.samefile(root / "second", root / "dir/file")
        for name in ("", "dir", "dir/file", "dir/deep", "dir/sub", "second"):
            assert lsattr(root / name) == pins, name
        # One name goes; the file that the other one has keeps its pin. A tree goes, with another name outside of it.
        failures = await told_twice(
            replica,
            Record(Kind.REMOVE, 0, b"second"),
            Record(Kind.LINK, 0, b"kept", other=b"dir/deep"),
            Record(Kind.REMOVE, 0, b"dir"),
        )
        assert [failure for failure in failures if failure.place.path != b"kept"] == []
        await replica.sink.flush()  # its private directory goes from a directory that is pinned
        assert (os.listdir(root), lsattr(root / "kept"), lsattr(root)) == (["kept"], pins, pins)
        record = Record(Kind.SETATTR, 0, b"kept", meta=flagged(FILE))
        assert (await replica.apply(record), lsattr(root / "kept")) == ((), "")
        assert await replica.apply(mkdir(b"kept", pin), create(b"kept/in", pin), create(b"kept")) == ()
        assert (root / "kept").read_text() == "content"
        assert await replica.apply(mkdir(b"full", pin), create(b"full/in", pin), Record(Kind.REMOVE, 0, b"")) == ()
        await replica.sink.flush()
        assert (os.listdir(root), lsattr(root)) == ([], pins)


async def test_what_is_pinned_is_set_aside(open_replica: OpenReplica, tmp_path: Path) -> None:
    async with open_replica(flags=True) as replica:
        await replica.apply(mkdir(b"dir", "i"), create(b"dir/file", "i"))
        await replica.sink.set_aside(Place(0, b"dir/file"), os.fsencode(tmp_path / "backup" / "aside"))
        aside = tmp_path / "backup" / "aside" / "dir" / "file"
        assert (aside.read_text(), lsattr(aside), lsattr(replica.root / "dir")) == ("content", "i", "i")
        assert os.listdir(replica.root / "dir") == []


async def test_without_the_option_flags_are_left_alone(open_replica: OpenReplica) -> None:
    async with open_replica() as replica:
        await replica.apply(create(b"file", "di"), create(b"other"))
        assert lsattr(replica.root / "file") == ""
        subprocess.run(["chattr", "+i", replica.root / "other"], check=True)  # noqa: S603, S607
        (failure,) = await replica.apply(create(b"other", data=b"second"))
        assert (failure.place.path, "immutable" in failure.message) == (b"other", True)
        (entry,) = (await seen(replica.sink, b"", b"other")).entries
        assert entry is not None and entry.flags == -1
        assert lsattr(replica.root / "other") == "i"


async def test_no_other_flag_is_touched(open_replica: OpenReplica) -> None:
    async with open_replica(flags=True) as replica:
        await replica.apply(create(b"file"), mkdir(b"dir"))
        subprocess.run(["chattr", "+t", replica.root / "file"], check=True)  # noqa: S603, S607
        subprocess.run(["chattr", "+T", replica.root / "dir"], check=True)  # noqa: S603, S607
        await replica.apply(Record(Kind.SETATTR, 0, b"file", meta=flagged(FILE, "d")), mkdir(b"dir", "A"))
        listed = [
            subprocess.run(["lsattr", "-d", replica.root / name], capture_output=True, text=True, check=True).stdout  # noqa: S603, S607
            for name in ("file", "dir")
        ]
        assert ["t" in listed[0].split()[0], "T" in listed[1].split()[0]] == [True, True]
        assert [lsattr(replica.root / name) for name in ("file", "dir")] == ["d", "A"]
