"""What a simulated disk keeps and loses, and what a machine may do on it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.testing.sim.disk import Disk
from i2core.testing.sim.inode import Inode
from i2core.testing.sim.kernel import Kernel
from i2core.testing.sim.machine import ANY, SYNC, WRITE, Killed, Machine, Violation, running

CUTS = range(60)
"""Power cuts that are tried, each with its own chance."""


def system(capacity_bytes: int | None = None) -> tuple[Kernel, Disk]:
    """A kernel with a disk at /disk."""
    kernel = Kernel(Disk(1, lambda: 1))
    kernel.mkdir(b"/disk")
    disk = Disk(2, lambda: 1, capacity_bytes=capacity_bytes)
    kernel.mount(b"/disk", disk)
    return kernel, disk


def write(kernel: Kernel, path: bytes, data: bytes, *, sync: bool = False) -> None:
    fd = kernel.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    assert kernel.write(fd, data) == len(data)
    if sync:
        kernel.fsync(fd)
    kernel.close(fd)


def read(kernel: Kernel, path: bytes) -> bytes | None:
    if not kernel.path.lexists(path):
        return None
    return bytes(kernel.find(path).data)


def outcomes(prepare: Callable[[Kernel, Disk], None]) -> set[bytes | None]:
    """The possible contents of /disk/file after a power cut."""
    found = set()
    for chance in CUTS:
        kernel, disk = system()
        prepare(kernel, disk)
        disk.power_cut(Random(chance))  # noqa: S311 (a seed, not a secret)
        found.add(read(kernel, b"/disk/file"))
    return found


def test_content_that_is_written_back_keeps_its_time() -> None:
    """The time was set before: undone, it would be older than the content."""
    for chance in CUTS:
        kernel, disk = system()
        write(kernel, b"/disk/file", b"old", sync=True)
        disk.sync()
        file = kernel.find(b"/disk/file")
        disk.set_mtime(file, 5)
        disk.write(file, b"new", 0)
        written_ns = file.mtime_ns
        disk.sync_content()
        disk.power_cut(Random(chance))  # noqa: S311 (a seed, not a secret)
        assert (bytes(file.data), file.mtime_ns) == (b"new", written_ns)


def test_what_is_synced_stays() -> None:
    def prepare(kernel: Kernel, disk: Disk) -> None:
        write(kernel, b"/disk/file", b"x" * 2000)
        disk.sync()
        assert disk.is_synced

    assert outcomes(prepare) == {b"x" * 2000}


def test_a_synced_file_stays_and_so_does_its_name() -> None:
    assert outcomes(lambda kernel, disk: write(kernel, b"/disk/file", b"x" * 2000, sync=True)) == {b"x" * 2000}


def test_unsynced_content_may_be_gone_empty_or_torn() -> None:
    found = outcomes(lambda kernel, disk: write(kernel, b"/disk/file", b"x" * 2000))
    assert {None, b"", b"x" * 2000} <= found
    assert any(each and each != b"x" * 2000 for each in found), "some are torn"


def test_a_rename_over_a_file_may_come_back_empty() -> None:
    def prepare(kernel: Kernel, disk: Disk) -> None:
        write(kernel, b"/disk/file", b"old")
        disk.sync()
        write(kernel, b"/disk/new", b"new")
        kernel.rename(b"/disk/new", b"/disk/file")

    assert outcomes(prepare) >= {b"old", b"", b"new"}


def test_names_are_lost_in_order() -> None:
    for chance in CUTS:
        kernel, disk = system()
        for number in range(10):
            kernel.mkdir(b"/disk/%d" % number)
            if number == 4:
                disk.sync()
        disk.power_cut(Random(chance))  # noqa: S311 (a seed, not a secret)
        there = sorted(int(name) for name in kernel.find(b"/disk").entries)
        assert there == list(range(len(there)))
        assert len(there) >= 5


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["write", "mkdir", "rename", "unlink", "rmdir", "link", "chmod", "xattr", "sync"]),
        st.sampled_from([b"a", b"b", b"a/c", b"b/c"]),
        st.sampled_from([b"a", b"b", b"a/c", b"b/c"]),
    ),
    max_size=30,
)


def work(kernel: Kernel, disk: Disk, verb: str, one: bytes, other: bytes) -> None:
    path, to = b"/disk/" + one, b"/disk/" + other
    try:
        if verb == "write":
            write(kernel, path, one * 300)
        elif verb in ("rename", "link"):
            getattr(kernel, verb)(path, to)
        elif verb == "chmod":
            kernel.chmod(path, 0o600)
        elif verb == "xattr":
            kernel.setxattr(path, "user.x", other)
        elif verb == "sync":
            disk.sync()
        else:
            getattr(kernel, verb)(path)
    except OSError:
        pass


def shape(disk: Disk) -> dict[bytes, tuple[object, ...]]:
    """Every name, without content and times."""
    found: dict[bytes, tuple[object, ...]] = {}
    waiting: list[tuple[bytes, Inode]] = [(b"", disk.root)]
    while waiting:
        path, inode = waiting.pop()
        found[path] = (inode.mode, inode.nlink, inode.number, tuple(sorted(inode.xattrs.items())))
        waiting += [(path + b"/" + name, child) for name, child in inode.entries.items()]
    return found


@given(operations=OPERATIONS, seed=st.integers(0, 1000))
def test_a_power_cut_leaves_a_moment_of_the_past(operations: list[tuple[str, bytes, bytes]], seed: int) -> None:
    kernel, disk = system()
    moments = [shape(disk)]
    for operation in operations:
        changes = disk.changes
        work(kernel, disk, *operation)
        if operation[0] == "sync":
            moments.clear()
        if disk.changes > changes or operation[0] == "sync":
            moments.append(shape(disk))
    disk.power_cut(Random(seed))  # noqa: S311 (a seed, not a secret)
    assert shape(disk) in moments
    assert disk.used_bytes == disk.page_bytes * sum(
        1 + len(inode.pages) for inode in {inode.number: inode for inode in disk.inodes()}.values()
    )
    kernel.mkdir(b"/disk/fresh")
    numbers = [inode.number for inode in set(disk.inodes())]
    assert len(numbers) == len(set(numbers)), "no number is given twice"


def test_a_full_disk_takes_what_fits_and_no_more() -> None:
    kernel, _ = system(capacity_bytes=512 * 6)
    fd = kernel.open(b"/disk/file", os.O_WRONLY | os.O_CREAT)
    assert kernel.pwrite(fd, b"x" * 5000, 0) == 512 * 4
    with pytest.raises(OSError, match="No space") as full:
        kernel.pwrite(fd, b"x", 512 * 4)
    assert full.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="No space"):
        kernel.mkdir(b"/disk/another")
    kernel.ftruncate(fd, 0)
    assert kernel.pwrite(fd, b"x" * 512, 0) == 512


def test_an_open_file_stays_without_a_name_and_frees_its_space_when_closed() -> None:
    kernel, disk = system()
    before = disk.used_bytes
    write(kernel, b"/disk/file", b"x" * 512)
    fd = kernel.open(b"/disk/file", os.O_RDONLY)
    kernel.unlink(b"/disk/file")
    assert kernel.pread(fd, 100, 500) == b"x" * 12
    assert disk.used_bytes > before
    kernel.close(fd)
    assert disk.used_bytes == before


def test_a_machine_writes_in_its_realm_alone() -> None:
    kernel, _ = system()
    kernel.mkdir(b"/disk/mine")
    kernel.mkdir(b"/disk/other")
    machine = Machine("node")
    machine.realms = [kernel.find(b"/disk/mine")]
    token = running.set(machine)
    try:
        write(kernel, b"/disk/mine/file", b"x")
        kernel.symlink(b"/disk/other", b"/disk/mine/way")
        for wrong in (b"/disk/other/file", b"/disk/mine/way/file", b"/disk/mine/../file"):
            with pytest.raises(Violation, match="node writes in"):
                write(kernel, wrong, b"x")
        with pytest.raises(Violation):
            kernel.rename(b"/disk/mine/file", b"/disk/other/file")
    finally:
        running.reset(token)
    assert kernel.find(b"/disk/other").entries == {}


@pytest.mark.parametrize(
    ("kind", "left", "made"), [(ANY, 3, 1), (WRITE, 3, 2), (SYNC, 1, 2), (SYNC, 2, 2), (SYNC, 3, 4)]
)
def test_a_machine_dies_at_its_step_and_does_nothing_from_then_on(kind: str, left: int, made: int) -> None:
    kernel, _ = system()
    machine = Machine("node")
    machine.realms = [kernel.find(b"/disk")]
    deaths: list[str] = []
    machine.on_death = lambda: deaths.append("dead")
    machine.left, machine.dies_on = left, kind
    token = running.set(machine)
    try:
        top = kernel.open(b"/disk", os.O_RDONLY)
        with pytest.raises(Killed):
            for number in range(10):
                kernel.mkdir(b"/disk/%d" % number)
                if number % 2:
                    kernel.fsync(top)
        with pytest.raises(Killed):
            kernel.stat(b"/disk")
    finally:
        running.reset(token)
    assert deaths == ["dead"]
    assert len(kernel.find(b"/disk").entries) == made


def test_the_kernel_refuses_unknown_calls() -> None:
    kernel, _ = system()
    for name in ("system", "copy_file_range", "sendfile", "getcwd"):
        with pytest.raises(AttributeError, match=f"lacks os.{name}"):
            getattr(kernel, name)
    assert kernel.O_RDONLY == os.O_RDONLY
