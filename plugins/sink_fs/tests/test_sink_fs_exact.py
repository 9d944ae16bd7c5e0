"""Metadata, holes and attributes arrive as they were, whatever the directory or the umask would make of them."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from i2_sink_fs import objects

from i2core.api import BLOCK_BYTES, Code, Kind, Line, Meta, Place, Record
from i2core.testing.trees import compare_trees

if TYPE_CHECKING:
    from conftest import Replica

ODD_MODES = (0o000, 0o200) if os.geteuid() == 0 else ()
"""An ordinary user could not look at its own objects (`test_attributes_of_what_its_owner_cannot_read`)."""
ACL_ACCESS, ACL_DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"


def acl(group: int, mask: int) -> bytes:
    """A POSIX ACL (linux/posix_acl_xattr.h): owner rwx, user 12 rwx, the group's, mask, others none."""
    entries = [(1, 7, 2**32 - 1), (2, 7, 12), (4, group, 2**32 - 1), (16, mask, 2**32 - 1), (32, 0, 2**32 - 1)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def meta(path: Path) -> Meta:
    """What a source sends of this object."""
    found = os.lstat(path)
    names = os.listxattr(path, follow_symlinks=False)
    pairs = sorted((os.fsencode(n), os.getxattr(path, n, follow_symlinks=False)) for n in names)
    return Meta(found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, tuple(pairs))


def record_of(path: Path, name: bytes) -> Record:
    what = meta(path)
    kind = stat.S_IFMT(what.mode)
    if kind == stat.S_IFREG:
        return Record(Kind.CREATE, 0, name, meta=what, data=path.read_bytes())
    if kind == stat.S_IFDIR:
        return Record(Kind.MKDIR, 0, name, meta=what)
    if kind == stat.S_IFLNK:
        return Record(Kind.SYMLINK, 0, name, meta=what, other=os.fsencode(path.readlink()))
    return Record(Kind.MKNOD, 0, name, meta=what, size=os.lstat(path).st_rdev)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    """A directory with one object of each kind, all with odd metadata."""
    top = tmp_path / "source"
    top.mkdir()
    for mode in (*ODD_MODES, 0o4755, 0o2711, 0o1777, 0o666, 0o444):
        (top / f"file{mode:o}").write_bytes(os.urandom(5000))
        (top / f"dir{mode:o}").mkdir()
        for kind in ("file", "dir"):
            path = top / f"{kind}{mode:o}"
            os.setxattr(path, "user.note", b"\0 %d" % mode)
            if mode == 0o666:
                os.setxattr(path, os.fsdecode(ACL_ACCESS), acl(4, 6))
                if kind == "dir":
                    os.setxattr(path, os.fsdecode(ACL_DEFAULT), acl(5, 7))
            if os.geteuid() == 0:
                os.chown(path, 1000 + mode, 2000)
                os.setxattr(path, "trusted.note", b"t")
            path.chmod(mode)
    (top / "link").symlink_to("nowhere\n")
    os.mkfifo(top / "fifo")
    os.mknod(top / "socket", stat.S_IFSOCK | 0o755)
    if os.geteuid() == 0:
        os.mknod(top / "char", stat.S_IFCHR | 0o620, os.makedev(1, 3))
        os.mknod(top / "block", stat.S_IFBLK | 0o600, os.makedev(7, 200))
        os.lchown(top / "link", 12, 13)
    for number, path in enumerate(sorted(top.iterdir())):
        os.utime(path, ns=(0, 10**18 + number * 1_000_000_007), follow_symlinks=False)
    yield top
    for path in top.glob("dir*"):
        path.chmod(0o700)


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize("directory", ["plain", "setgid", "default ACL"])
async def test_tree_arrives_exactly(replica: Replica, source: Path, directory: str, umask: int) -> None:
    if directory == "setgid":
        if os.geteuid() == 0:
            os.chown(source, 0, 777)
        source.chmod(0o2775)
    elif directory == "default ACL":
        os.setxattr(source, os.fsdecode(ACL_DEFAULT), acl(7, 7))
    names = sorted(os.listdir(source))
    records = [record_of(source / name, os.fsencode(name)) for name in names]
    top = Record(Kind.SETATTR, 0, b"", meta=meta(source))
    before = os.umask(umask)
    try:
        for _ in range(2):  # made, then put in the place of what is there
            assert await replica.apply(top, *records, top) == ()
            await replica.at_rest()
            assert compare_trees(source, replica.root) == []
    finally:
        os.umask(before)
    # Through staging, and by SETATTR alone, the same.
    for name, record in zip(names, records, strict=True):
        assert record.meta is not None
        place = os.fsencode(name)
        other = record.meta._replace(xattrs=(), mtime_ns=1, uid=0 if os.geteuid() == 0 else record.meta.uid)
        await replica.apply(Record(Kind.SETATTR, 0, place, meta=other))
        if record.kind is Kind.CREATE:
            staged = Record(Kind.WRITE, 0, place, data=record.data, staged=True)
            publish = Record(Kind.PUBLISH, 0, place, size=len(record.data), meta=record.meta)
            assert await replica.apply(Record(Kind.STAGE, 0, place), staged, publish) == ()
        else:
            assert await replica.apply(record._replace(kind=Kind.SETATTR)) == ()
    assert await replica.apply(top) == ()
    await replica.at_rest()
    assert compare_trees(source, replica.root) == []
    assert replica.said == []


@pytest.mark.parametrize("mode", [0o000, 0o200, 0o400, 0o077])
@pytest.mark.parametrize("kind", [Kind.CREATE, Kind.MKDIR])
async def test_attributes_of_what_its_owner_cannot_read(replica: Replica, kind: Kind, mode: int) -> None:
    path, file_type = replica.root / "x", stat.S_IFREG if kind is Kind.CREATE else stat.S_IFDIR
    notes = ((b"user.a", b"1"),), ((b"user.a", b"2"), (b"user.b", b"3")), ()
    for step in (kind, Kind.SETATTR):
        for note in notes:
            what = Meta(file_type | mode, os.geteuid(), os.getegid(), 5, note)
            assert await replica.apply(Record(step, 0, b"x", meta=what)) == ()
            assert os.lstat(path).st_mode == what.mode
            path.chmod(0o700)
            assert meta(path).xattrs == note
            path.chmod(mode)
    path.chmod(0o700)
    assert replica.said == []


async def test_attributes_that_an_outsider_added_go(replica: Replica) -> None:
    wanted = Meta(stat.S_IFREG | 0o640, os.geteuid(), os.getegid(), 5, ((b"user.a", b"1"),))
    await replica.apply(Record(Kind.CREATE, 0, b"f", meta=wanted))
    os.setxattr(replica.root / "f", "user.b", b"2")
    os.setxattr(replica.root / "f", os.fsdecode(ACL_ACCESS), acl(6, 6))
    assert await replica.apply(Record(Kind.SETATTR, 0, b"f", meta=wanted._replace(xattrs=None))) == ()
    assert set(os.listxattr(replica.root / "f")) == {"user.a", "user.b", os.fsdecode(ACL_ACCESS)}
    assert await replica.apply(Record(Kind.SETATTR, 0, b"f", meta=wanted)) == ()
    assert meta(replica.root / "f") == wanted


async def test_an_access_list_that_a_directory_gets_meanwhile_reaches_nothing_new(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner sets the list while a batch has the directory open."""
    wanted = Meta(stat.S_IFREG | 0o640, os.geteuid(), os.getegid(), 5, ())
    directory = wanted._replace(mode=stat.S_IFDIR | 0o750)
    fifo = Record(Kind.MKNOD, 0, b"d/fifo", meta=wanted._replace(mode=stat.S_IFIFO | 0o640))

    def write_all(fd: int, data: bytes, offset: int) -> None:
        os.setxattr(replica.root / "d", os.fsdecode(ACL_DEFAULT), acl(7, 7))

    monkeypatch.setattr(objects, "write_all", write_all)
    first = Record(Kind.MKDIR, 0, b"d", meta=directory), Record(Kind.CREATE, 0, b"d/first", meta=wanted, data=b"x")
    for xattrs in ((), None):
        file = Record(Kind.CREATE, 0, b"d/file", meta=wanted._replace(xattrs=xattrs))
        made = file, Record(Kind.MKDIR, 0, b"d/sub", meta=directory), fifo
        assert await replica.apply(*first, *made) == ()
        assert os.listxattr(replica.root / "d") == [os.fsdecode(ACL_DEFAULT)]
        for record in made:
            path = replica.root / os.fsdecode(record.path)
            assert record.meta is not None
            assert (os.listxattr(path), path.stat().st_mode) == ([], record.meta.mode)
        assert await replica.apply(Record(Kind.REMOVE, 0, b"d")) == ()


async def test_an_attribute_that_cannot_be_kept_is_said_once_with_its_code(replica: Replica) -> None:
    """Linux keeps no user.* attributes of a symlink."""
    what = Meta(stat.S_IFLNK | 0o777, os.geteuid(), os.getegid(), 5, ((b"user.a", b"1"),))
    for name in (b"one", b"two"):
        assert await replica.apply(Record(Kind.SYMLINK, 0, name, other=b"nowhere", meta=what)) == ()
    (line,) = replica.said
    assert isinstance(line, Line)
    assert (line.code, line.obj, line.cause) == (Code.ATTRIBUTE_UNSUPPORTED, "one", "extended attributes user.*")


async def test_attribute_too_large_is_one_failure(replica: Replica) -> None:
    """ext4 says "no space left" when one object's attributes do not fit: no reason to stop the rule."""
    large = Meta(stat.S_IFREG | 0o600, os.geteuid(), os.getegid(), 5, ((b"user.a", b"1"), (b"user.b", b"x" * 60_000)))
    failures = await replica.apply(
        Record(Kind.CREATE, 0, b"f", meta=large, data=b"content"),
        Record(Kind.CREATE, 0, b"g", meta=large._replace(xattrs=())),
    )
    if not failures:
        pytest.skip("this file system keeps attributes of 60 kB")
    assert [(f.seq, f.place, f.code, f.repair) for f in failures] == [(1, Place(0, b"f"), Code.SAVE_ATTRIBUTES, False)]
    assert (replica.root / "f").read_bytes() == b"content"
    assert meta(replica.root / "f") == large._replace(xattrs=((b"user.a", b"1"),))


@pytest.mark.root
async def test_immutable_file_is_one_failure(replica: Replica) -> None:
    what = Meta(stat.S_IFREG | 0o600, 0, 0, 5, ())
    await replica.apply(Record(Kind.CREATE, 0, b"f", meta=what, data=b"old"))
    set_flags(replica.root / "f", 0x10)
    try:
        failures = await replica.apply(
            Record(Kind.CREATE, 0, b"f", meta=what, data=b"new"),
            Record(Kind.WRITE, 0, b"f", data=b"new"),
            Record(Kind.REMOVE, 0, b"f"),
            Record(Kind.CREATE, 0, b"g", meta=what),
        )
    finally:
        set_flags(replica.root / "f", 0)
    assert [(f.seq, f.repair) for f in failures] == [(2, False), (3, False), (4, False)]
    assert all("immutable" in f.message for f in failures)
    assert all(f"replica {replica.root}/f: " in f.message for f in failures), "said where it is"
    assert await replica.at_rest() == ["f", "g"]
    assert (replica.root / "f").read_bytes() == b"old"


def set_flags(path: Path, flags: int) -> None:
    """ioctl FS_IOC_SETFLAGS: what chattr(1) does."""
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, 0x40086602, struct.pack("L", flags))
    finally:
        os.close(fd)


async def test_holes_stay_holes(replica: Replica, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    size = 64 << 20
    with (source / "sparse").open("wb") as file:
        file.truncate(size)
        os.pwrite(file.fileno(), b"a" * 5000, 3 << 20)
        os.pwrite(file.fileno(), b"b" * 5000, size - 5000)
    what = meta(source / "sparse")
    records = [
        Record(Kind.STAGE, 0, b"sparse"),
        Record(Kind.WRITE, 0, b"sparse", offset=0, data=b"x" * (2 << 20), staged=True),
        Record(Kind.PUNCH, 0, b"sparse", offset=0, size=3 << 20, staged=True),
        Record(Kind.WRITE, 0, b"sparse", offset=3 << 20, data=b"a" * 5000, staged=True),
        Record(Kind.WRITE, 0, b"sparse", offset=size - 5000, data=b"b" * 5000, staged=True),
        Record(Kind.PUBLISH, 0, b"sparse", size=size, meta=what),
        Record(Kind.SETATTR, 0, b"", meta=meta(source)),
    ]
    assert await replica.apply(*records) == ()
    await replica.at_rest()
    assert compare_trees(source, replica.root) == []
    got = await replica.sink.hashes(Place(0, b"sparse"), 0, size // BLOCK_BYTES)
    (replica.root / "sparse").write_bytes((source / "sparse").read_bytes())
    assert await replica.sink.hashes(Place(0, b"sparse"), 0, size // BLOCK_BYTES) == got
    assert len(got) == size // BLOCK_BYTES * 16
    assert any("holes were filled" in line for line in compare_trees(source, replica.root))
