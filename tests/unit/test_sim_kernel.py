"""The simulated kernel and disk do what the real ones do: same calls, same results, same errors."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from i2_sink_fs.system import punch_hole

from i2core.posix.syscalls import has_xattrs, open_beneath
from i2core.testing.sim.disk import Disk
from i2core.testing.sim.kernel import Kernel

PAGE = 4096
NAMES = [b"a", b"b", b"c"]
ABOVE = st.lists(st.sampled_from([*NAMES, *NAMES, b"..", b"."]), max_size=3)
PATHS = st.tuples(ABOVE, st.sampled_from(NAMES)).map(lambda parts: b"/".join([*parts[0], parts[1]]))
"""What ends in a dot is no path of a program that works by descriptors."""
FLAGS = st.sampled_from(
    [
        os.O_RDONLY,
        os.O_WRONLY | os.O_CREAT,
        os.O_WRONLY | os.O_CREAT | os.O_EXCL,
        os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW,
        os.O_RDONLY | os.O_DIRECTORY,
        os.O_RDONLY | os.O_NOFOLLOW,
        os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW,
        os.O_PATH | os.O_NOFOLLOW,
        os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW,
        os.O_WRONLY,
        os.O_WRONLY | os.O_TRUNC,
        os.O_RDWR,
    ]
)
# The simulation denies nothing, and the real system denies root nothing: an ordinary user keeps its own rights.
OWN = 0 if os.geteuid() == 0 else 0o700
MODES = st.sampled_from([mode | OWN for mode in (0o600, 0o644, 0o755, 0o4711, 0o2770)])
OFFSETS = st.sampled_from([0, 1, 100, PAGE, 2 * PAGE, 5 * PAGE + 7])
STEPS = st.one_of(
    st.tuples(st.just("mkdir"), PATHS, st.sampled_from([0o700, 0o755, 0o777])),
    st.tuples(st.sampled_from(["rmdir", "unlink", "look", "readlink", "listdir", "has_xattrs"]), PATHS),
    st.tuples(st.sampled_from(["rename", "link"]), PATHS, PATHS),
    st.tuples(st.just("symlink"), PATHS, PATHS),
    st.tuples(st.sampled_from(["open", "open_beneath"]), PATHS, FLAGS),
    st.tuples(st.just("write"), PATHS, st.sampled_from([1, 5000, 3 * PAGE]), OFFSETS),
    st.tuples(st.sampled_from(["truncate", "punch", "seek_data", "seek_hole"]), PATHS, OFFSETS),
    st.tuples(st.just("chmod"), PATHS, MODES),
    st.tuples(st.just("utime"), PATHS, st.integers(0, 10**18)),
    st.tuples(
        st.just("setxattr"), PATHS, st.sampled_from(["user.one", "user.two", "odd.space"]), st.binary(max_size=9)
    ),
    st.tuples(st.just("removexattr"), PATHS, st.sampled_from(["user.one", "user.two"])),
    st.tuples(st.sampled_from(["mkfifo"]), PATHS),
)
ROOT_STEPS = st.one_of(
    STEPS,
    st.tuples(st.just("chown"), PATHS, st.sampled_from([0, 1000]), st.sampled_from([0, 100])),
    st.tuples(st.just("mknod"), PATHS),
)


class Side:
    """The real system or the simulated one. Every step is carried out beneath an open directory."""

    def __init__(self, system: Any, top: int, beneath: Any, xattrs: Any, punch: Any) -> None:
        self._os = system
        self._top = top
        self._beneath = beneath
        self._xattrs = xattrs
        self._punch = punch

    def take(self, step: tuple[Any, ...]) -> object:
        """The result of the step: a value, or the errno."""
        verb, *arguments = step
        try:
            return getattr(self, verb)(*arguments)
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def _proc(self, path: bytes) -> bytes:
        return b"/proc/self/fd/%d/%s" % (self._top, path)

    @contextmanager
    def _opened(self, path: bytes, flags: int) -> Iterator[int]:
        fd = self._os.open(path, flags | os.O_NONBLOCK, 0o644, dir_fd=self._top)
        try:
            yield fd
        finally:
            self._os.close(fd)

    @contextmanager
    def _content(self, path: bytes, flags: int) -> Iterator[int]:
        """The product reads and writes only regular files, so results for others do not matter."""
        with self._opened(path, flags) as fd:
            if not stat.S_ISREG(self._os.fstat(fd).st_mode):
                raise OSError(errno.EPIPE, "no regular file")
            yield fd

    def mkdir(self, path: bytes, mode: int) -> None:
        self._os.mkdir(path, mode, dir_fd=self._top)

    def rmdir(self, path: bytes) -> None:
        self._os.rmdir(path, dir_fd=self._top)

    def unlink(self, path: bytes) -> None:
        self._os.unlink(path, dir_fd=self._top)

    def look(self, path: bytes) -> tuple[object, ...]:
        found = self._os.stat(path, dir_fd=self._top, follow_symlinks=False)
        size = found.st_size if not stat.S_ISDIR(found.st_mode) else 0
        # The simulation's user is root; the real user has similar rights on its own objects.
        owner = (found.st_uid - self._os.geteuid(), found.st_gid - self._os.getegid())
        return (found.st_mode, *owner, found.st_nlink, size, found.st_rdev)

    def readlink(self, path: bytes) -> object:
        return self._os.readlink(path, dir_fd=self._top)

    def listdir(self, path: bytes) -> object:
        return sorted(self._os.listdir(self._proc(path)))

    def has_xattrs(self, path: bytes) -> object:
        return self._xattrs(self._top, path)

    def rename(self, old: bytes, new: bytes) -> None:
        self._os.rename(old, new, src_dir_fd=self._top, dst_dir_fd=self._top)

    def link(self, old: bytes, new: bytes) -> None:
        self._os.link(old, new, src_dir_fd=self._top, dst_dir_fd=self._top, follow_symlinks=False)

    def symlink(self, target: bytes, path: bytes) -> None:
        self._os.symlink(target, path, dir_fd=self._top)

    def mkfifo(self, path: bytes) -> None:
        self._os.mkfifo(path, 0o600, dir_fd=self._top)

    def mknod(self, path: bytes) -> None:
        self._os.mknod(path, stat.S_IFSOCK | 0o600, dir_fd=self._top)

    def open(self, path: bytes, flags: int) -> object:
        with self._opened(path, flags) as fd:
            return self._os.fstat(fd).st_mode

    def open_beneath(self, path: bytes, flags: int) -> object:
        plain = flags if flags & os.O_PATH else flags | os.O_NONBLOCK
        fd = self._beneath(self._top, path, plain & ~(os.O_CREAT | os.O_EXCL))
        try:
            return self._os.fstat(fd).st_mode
        finally:
            self._os.close(fd)

    def write(self, path: bytes, size: int, offset: int) -> object:
        with self._content(path, os.O_RDWR | os.O_CREAT) as fd:
            self._os.pwrite(fd, b"x" * size, offset)
            return self._os.pread(fd, 100_000, 0)

    def truncate(self, path: bytes, size: int) -> object:
        with self._content(path, os.O_RDWR) as fd:
            self._os.ftruncate(fd, size)
            return self._os.pread(fd, 100_000, 0)

    def punch(self, path: bytes, offset: int) -> object:
        with self._content(path, os.O_RDWR) as fd:
            self._punch(fd, offset, 2 * PAGE)
            return self._os.pread(fd, 100_000, 0)

    def seek_data(self, path: bytes, offset: int) -> object:
        with self._content(path, os.O_RDONLY) as fd:
            return self._os.lseek(fd, offset, os.SEEK_DATA)

    def seek_hole(self, path: bytes, offset: int) -> object:
        with self._content(path, os.O_RDONLY) as fd:
            return self._os.lseek(fd, offset, os.SEEK_HOLE)

    def chmod(self, path: bytes, mode: int) -> None:
        self._os.chmod(path, mode, dir_fd=self._top)

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        self._os.chown(path, uid, gid, dir_fd=self._top, follow_symlinks=False)

    def utime(self, path: bytes, ns: int) -> object:
        self._os.utime(path, ns=(ns, ns), dir_fd=self._top, follow_symlinks=False)
        return self._os.stat(path, dir_fd=self._top, follow_symlinks=False).st_mtime_ns

    def setxattr(self, path: bytes, name: str, value: bytes) -> object:
        self._os.setxattr(self._proc(path), name, value, follow_symlinks=False)
        return self._os.getxattr(self._proc(path), name, follow_symlinks=False)

    def removexattr(self, path: bytes, name: str) -> object:
        self._os.removexattr(self._proc(path), name, follow_symlinks=False)
        return sorted(self._os.listxattr(self._proc(path), follow_symlinks=False))


def simulated(**options: Any) -> Kernel:
    """A kernel with one disk at /top."""
    kernel = Kernel(Disk(1, lambda: 1))
    kernel.mkdir(b"/top", 0o755)
    kernel.mount(b"/top", Disk(2, lambda: 1, page_bytes=PAGE, **options))
    return kernel


def both(tmp_path: Path) -> tuple[Side, Side]:
    """The real system in an empty directory, and the simulated one."""
    top = tmp_path / str(len(list(tmp_path.iterdir())))
    (top / "within").mkdir(parents=True, mode=0o755)
    kernel = simulated()
    kernel.mkdir(b"/top/within", 0o755)
    real = Side(os, os.open(top / "within", os.O_RDONLY), open_beneath, has_xattrs, punch_hole)
    fd = kernel.open(b"/top/within", os.O_RDONLY)
    return real, Side(kernel, fd, kernel.open_beneath, kernel.has_xattrs, kernel.punch_hole)


def leads_out(step: tuple[Any, ...]) -> bool:
    """True for a step that leaves the directory, where the two systems differ."""
    for path in step[1:]:
        if isinstance(path, bytes):
            depth = 0
            for part in path.split(b"/"):
                depth += {b"..": -1, b".": 0}.get(part, 1)
                if depth < 0:
                    return bool(step[0] != "open_beneath")
    return bool(step[0] == "symlink" and b".." in step[1])


def hold(tmp_path: Path, steps: list[tuple[Any, ...]]) -> None:
    real, simulation = both(tmp_path)
    before = os.umask(0o022)
    try:
        for number, step in enumerate(steps):
            if not leads_out(step):
                assert simulation.take(step) == real.take(step), steps[: number + 1]
    finally:
        os.umask(before)
        os.close(real._top)


SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@SETTINGS
@given(steps=st.lists(STEPS, max_size=40))
def test_the_same_as_the_real_kernel(tmp_path: Path, steps: list[tuple[Any, ...]]) -> None:
    hold(tmp_path, steps)


@pytest.mark.root
@SETTINGS
@given(steps=st.lists(ROOT_STEPS, max_size=40))
def test_the_same_as_the_real_kernel_for_root(tmp_path: Path, steps: list[tuple[Any, ...]]) -> None:
    hold(tmp_path, steps)
