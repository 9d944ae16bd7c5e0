"""Random operations of applications on a source tree, also unusual ones, replayable by their seed.

Run as a script this is a separate application: it reads lines ``seed count [operation …]`` from standard input,
carries out that many operations beneath the roots of its command line, and answers each line with one JSON line, the
log of what was done. The same seed on the same tree does the same. It needs the standard library alone.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import random
import shutil
import stat
import struct
import sys
from collections.abc import Callable
from contextlib import suppress

NAMES = (b"a", b"b", b"c", b"data", b"log", b"line\nbreak", b"not-utf8-\xff\xfe", b"n" * 255, "文件".encode(), b"-rf *")
FENCE = b"fence"
"""The file that shows when the replica has caught up: left alone."""
DEEPEST = 5
BLOCK = 65536
SIZES = (0, 1, 100, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7, 700_000)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_KEEP_SIZE, _PUNCH = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)


class Applicant:
    """Works beneath `roots` (absolute); `outside` is a directory of the same file system that no rule covers."""

    def __init__(self, roots: list[bytes], outside: bytes) -> None:
        self._roots = roots
        self._outside = outside
        self._random = random.Random(0)  # noqa: S311 (a seed, not a secret)
        self._log: list[str] = []
        self._mtime = 1_600_000_000_000_000_000
        self._is_root = os.geteuid() == 0

    def work(self, seed: int, count: int, names: list[str]) -> list[str]:
        """Carries out operations; returns their log. An operation that is not possible now is skipped."""
        self._random = random.Random(seed)  # noqa: S311
        self._log = []
        chosen = names or [name for name, weight in WEIGHTS.items() for _ in range(weight)]
        for _ in range(count):
            name = self._random.choice(chosen)
            self._log.append(name)
            try:
                getattr(self, name)()
            except OSError as error:
                self._log[-1] += f" ({errno.errorcode.get(error.errno or 0)})"
        return self._log

    # ------------------------------------------------------------------------------------------ choosing

    def _say(self, *paths: bytes | int) -> None:
        shown = " ".join(repr(path).replace("n" * 255, "n*255") for path in paths)
        self._log[-1] += " " + shown.replace(os.fsdecode(os.path.dirname(self._outside)) + "/", "")

    def _all(self, wanted: Callable[[int], bool]) -> list[bytes]:
        found = []
        todo = list(self._roots)
        while todo:
            above = todo.pop()
            for name in sorted(os.listdir(above)):
                path = above + b"/" + name
                mode = os.lstat(path).st_mode
                if wanted(mode) and name != FENCE:
                    found.append(path)
                if stat.S_ISDIR(mode):
                    todo.append(path)
        return found

    def _existing(self, wanted: Callable[[int], bool] = lambda mode: True) -> bytes:
        found = self._all(wanted)
        if not found:
            raise FileNotFoundError(errno.ENOENT, "nothing of that kind")
        return self._random.choice(found)

    def _file(self) -> bytes:
        return self._existing(stat.S_ISREG)

    def _directory(self) -> bytes:
        """A directory in which something can be created; often a root."""
        found = [path for path in self._all(stat.S_ISDIR) if self._depth(path) < DEEPEST]
        return self._random.choice(found + self._roots)

    def _depth(self, path: bytes) -> int:
        root = next(root for root in self._roots if path.startswith(root))
        return path[len(root) :].count(b"/")

    def _place(self) -> bytes:
        return self._directory() + b"/" + self._random.choice(NAMES)

    def _fresh(self) -> bytes:
        """A free name."""
        for _ in range(20):
            path = self._place()
            if not os.path.lexists(path):
                return path
        raise FileExistsError(errno.EEXIST, "no place is free")

    def _bytes(self, size: int | None = None) -> bytes:
        size = self._random.choice(SIZES) if size is None else size
        return self._random.randbytes(size)

    def _write(self, path: bytes, data: bytes) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        with os.fdopen(fd, "wb") as file:
            file.write(data)

    # ------------------------------------------------------------------------------------------ content

    def create(self) -> None:
        path = self._fresh()
        self._say(path)
        self._write(path, self._bytes())

    def overwrite(self) -> None:
        path = self._file()
        self._say(path)
        self._write(path, self._bytes())

    def append(self) -> None:
        path = self._file()
        self._say(path)
        with open(path, "ab") as file:
            for _ in range(self._random.randrange(1, 4)):
                file.write(self._bytes(self._random.choice((1, 50, 5000, BLOCK))))
                file.flush()

    def write_within(self) -> None:
        path = self._file()
        self._say(path)
        fd = os.open(path, os.O_WRONLY)
        try:
            size = os.fstat(fd).st_size
            for _ in range(self._random.randrange(1, 4)):
                os.pwrite(fd, self._bytes(self._random.choice((1, 100, 5000))), self._random.randrange(size + 1))
        finally:
            os.close(fd)

    def cut(self) -> None:
        path = self._file()
        self._say(path)
        os.truncate(path, self._random.randrange(os.stat(path).st_size + 1))

    def grow(self) -> None:
        path = self._file()
        self._say(path)
        os.truncate(path, os.stat(path).st_size + self._random.choice((1, 4096, BLOCK, 10 * BLOCK + 3)))

    def punch(self) -> None:
        path = self._file()
        self._say(path)
        self._fallocate(path, _PUNCH | _KEEP_SIZE)

    def allocate(self) -> None:
        path = self._file()
        self._say(path)
        self._fallocate(path, self._random.choice((0, _KEEP_SIZE)))

    def _fallocate(self, path: bytes, mode: int) -> None:
        fd = os.open(path, os.O_RDWR)
        try:
            start = self._random.randrange(os.fstat(fd).st_size // 4096 + 1) * 4096
            length = self._random.choice((4096, BLOCK, 2 * BLOCK))
            call = _libc.fallocate
            if call(fd, mode, ctypes.c_int64(start), ctypes.c_int64(length)):
                raise OSError(ctypes.get_errno(), "fallocate", path)
        finally:
            os.close(fd)

    def map_and_store(self) -> None:
        """Stores through mmap, which no event reports."""
        path = self._file()
        self._say(path)
        fd = os.open(path, os.O_RDWR)
        try:
            size = os.fstat(fd).st_size
            if not size:
                return
            with mmap.mmap(fd, size) as memory:
                at = self._random.randrange(size)
                memory[at] ^= 0xFF
                memory.flush()
        finally:
            os.close(fd)

    def huge(self) -> None:
        """A sparse file beyond 64 MiB, then changed in place and grown."""
        path = self._random.choice(self._roots) + b"/huge"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
        try:
            size = max(os.fstat(fd).st_size, 70 << 20)
            os.ftruncate(fd, size)
            for _ in range(4):
                os.pwrite(fd, self._bytes(self._random.choice((4096, 300_000))), self._random.randrange(size - BLOCK))
            os.pwrite(fd, self._bytes(100_000), size)
            self._say(path, size)
        finally:
            os.close(fd)

    def large(self) -> None:
        """Creates a dense file that does not fit into one record, or changes an existing one everywhere."""
        path = self._random.choice(self._roots) + b"/large"
        self._say(path)
        self._write(path, self._bytes(self._random.choice((5 << 20, (9 << 20) + 5))))

    # ------------------------------------------------------------------------------------------ attributes

    def chmod(self) -> None:
        path = self._existing(lambda mode: not stat.S_ISLNK(mode))
        self._say(path)
        # Never a mode that would keep this process itself out of a directory.
        os.chmod(path, self._random.choice((0o755, 0o700, 0o1777, 0o2750, 0o4755, 0o744)))

    def chown(self) -> None:
        path = self._existing()
        self._say(path)
        if self._is_root:
            os.lchown(path, self._random.choice((0, 1, 1000, 65534)), self._random.choice((0, 2, 100)))

    def utime(self) -> None:
        path = self._existing()
        self._say(path)
        self._mtime += 1_000_000_007
        os.utime(path, ns=(self._mtime, self._mtime), follow_symlinks=False)

    def setxattr(self) -> None:
        path = self._existing(lambda mode: stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        self._say(path)
        os.setxattr(
            path, self._random.choice((b"user.one", b"user.two")), self._bytes(self._random.choice((0, 9, 900)))
        )

    def removexattr(self) -> None:
        path = self._existing(lambda mode: stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        self._say(path)
        for name in os.listxattr(path):
            if name.startswith("user."):
                os.removexattr(path, name)

    def setfacl(self) -> None:
        path = self._existing(lambda mode: stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        is_dir = stat.S_ISDIR(os.lstat(path).st_mode)
        name = b"system.posix_acl_default" if is_dir and self._random.random() < 0.5 else b"system.posix_acl_access"
        self._say(path, name)
        os.setxattr(path, name, _acl(self._random.choice((1, 1000, 65534)), self._random.randrange(8)))

    # ------------------------------------------------------------------------------------------ names

    def link(self) -> None:
        path, to = self._file(), self._fresh()
        self._say(path, to, os.stat(path).st_ino)
        os.link(path, to)

    def unlink(self) -> None:
        path = self._existing(lambda mode: not stat.S_ISDIR(mode))
        self._say(path)
        os.unlink(path)

    def unlink_open(self) -> None:
        """Removes a file while it is open, and writes to it once more."""
        path = self._existing(stat.S_ISREG)
        if os.stat(path).st_nlink > 1:
            return  # the write would change names that no event reports
        self._say(path)
        fd = os.open(path, os.O_WRONLY)
        try:
            os.write(fd, b"before")
            os.unlink(path)
            os.write(fd, b"behind")
        finally:
            os.close(fd)

    def rename(self) -> None:
        path, to = self._existing(), self._fresh()
        self._say(path, to)
        os.rename(path, to)

    def rename_over(self) -> None:
        path, to = self._file(), self._file()
        self._say(path, to)
        os.rename(path, to)

    def rename_chain(self) -> None:
        path = self._existing()
        steps = [self._fresh() for _ in range(self._random.randrange(2, 4))]
        self._say(path, *steps)
        for step in steps:
            if os.path.lexists(step):
                break
            os.rename(path, step)
            path = step

    def rename_tree(self) -> None:
        path, to = self._existing(stat.S_ISDIR), self._fresh()
        self._say(path, to)
        os.rename(path, to)

    def rename_busy_tree(self) -> None:
        """Renames a directory while a file beneath it is being written."""
        path, to = self._existing(stat.S_ISDIR), self._fresh()
        self._say(path, to)
        fd = os.open(path + b"/busy", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            os.write(fd, self._bytes(100))
            os.rename(path, to)
            os.write(fd, self._bytes(BLOCK))
            self._write(to + b"/late", self._bytes(10))
            os.write(fd, self._bytes(100))
        finally:
            os.close(fd)

    def move_out(self) -> None:
        path = self._existing()
        self._say(path)
        os.rename(path, self._outside + b"/%d" % self._random.getrandbits(60))

    def move_in(self) -> None:
        there = sorted(os.listdir(self._outside))
        if not there:
            return
        path, to = self._outside + b"/" + self._random.choice(there), self._fresh()
        self._say(path, to)
        os.rename(path, to)

    def exchange(self) -> None:
        one, other = self._existing(), self._existing()
        self._say(one, other)
        if (other + b"/").startswith(one + b"/") or (one + b"/").startswith(other + b"/"):
            return
        if _libc.renameat2(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE):
            raise OSError(ctypes.get_errno(), "renameat2", one)

    def swap(self) -> None:
        """Exchanges the names of two files by way of a third name."""
        one, other = self._file(), self._file()
        if one == other:
            return
        passing = os.path.dirname(one) + b"/passing"
        self._say(one, other)
        os.rename(one, passing)
        os.rename(other, one)
        os.rename(passing, other)

    # ------------------------------------------------------------------------------------------ kinds

    def symlink(self) -> None:
        path = self._fresh()
        self._say(path)
        os.symlink(self._random.choice((b"a", b"../..", b"/etc", b"\xff" * 300, b"nowhere\n")), path)

    def symlink_anew(self) -> None:
        """Replaces a symlink by one with another text, often in the same inode."""
        path = self._existing(stat.S_ISLNK)
        self._say(path)
        os.unlink(path)
        os.symlink(b"to-%d" % self._random.getrandbits(20), path)

    def symlink_for_directory(self) -> None:
        path = self._existing(stat.S_ISDIR)
        self._say(path)
        os.rename(path, self._outside + b"/%d" % self._random.getrandbits(60))
        os.symlink(self._outside, path)

    def directory_for_symlink(self) -> None:
        path = self._existing(stat.S_ISLNK)
        self._say(path)
        os.unlink(path)
        os.mkdir(path)
        self._write(path + b"/in", self._bytes(10))

    def file_for_directory(self) -> None:
        path = self._existing(stat.S_ISDIR)
        self._say(path)
        shutil.rmtree(path)
        self._write(path, self._bytes())

    def directory_for_file(self) -> None:
        path = self._file()
        self._say(path)
        os.unlink(path)
        os.mkdir(path)
        self._write(path + b"/in", self._bytes(10))

    def fifo(self) -> None:
        path = self._fresh()
        self._say(path)
        os.mkfifo(path)

    def device(self) -> None:
        path = self._fresh()
        self._say(path)
        if self._is_root:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, self._random.choice((3, 5, 7))))

    # ------------------------------------------------------------------------------------------ trees

    def mkdir(self) -> None:
        path = self._fresh()
        self._say(path)
        os.mkdir(path)

    def nest(self) -> None:
        """``mkdir -p`` with a file in each directory, as fast as possible."""
        path = self._fresh()
        self._say(path)
        for _ in range(3):
            os.mkdir(path)
            self._write(path + b"/file", self._bytes(20))
            path += b"/deeper"

    def move_beneath_new(self) -> None:
        """Moves a tree into a directory that was created a moment ago."""
        path, to = self._existing(), self._fresh()
        if (to + b"/").startswith(path + b"/"):
            return
        self._say(path, to)
        os.makedirs(to + b"/new")
        os.rename(path, to + b"/new/moved")

    def rmtree(self) -> None:
        path = self._existing(stat.S_ISDIR)
        self._say(path)
        shutil.rmtree(path)

    def tree_anew(self) -> None:
        """Removes a tree, and creates another one under the same name."""
        path = self._existing(stat.S_ISDIR)
        self._say(path)
        shutil.rmtree(path)
        os.mkdir(path)
        self._write(path + b"/" + self._random.choice(NAMES), self._bytes(30))

    def many(self) -> None:
        """Many small files at once."""
        directory = self._fresh()
        self._say(directory)
        os.mkdir(directory)
        for number in range(self._random.randrange(20, 150)):
            self._write(directory + b"/%d" % number, self._bytes(self._random.randrange(200)))

    # ------------------------------------------------------------------------------------------ habits

    def save(self) -> None:
        """Saves like an editor: renames a temporary file over the old one."""
        path = self._file()
        passing = path[: -len(os.path.basename(path))] + b".save"
        self._say(path)
        self._write(passing, self._bytes())
        os.chmod(passing, stat.S_IMODE(os.stat(path).st_mode))
        os.rename(passing, path)

    def rotate(self) -> None:
        """Rotates like logrotate: log.1 to log.2, log to log.1, a new log."""
        directory = self._directory()
        log = directory + b"/rotated"
        self._say(log)
        for number in (2, 1):
            with suppress(FileNotFoundError):
                os.rename(log + b".%d" % number, log + b".%d" % (number + 1))
        with suppress(FileNotFoundError):
            os.rename(log, log + b".1")
        self._write(log, self._bytes(500))
        with open(log, "ab") as file:
            file.write(b"a line\n")

    def same_look(self) -> None:
        """Replaces a file by one with other content and equal size and mtime, often in the same inode."""
        path = self._file()
        found = os.stat(path)
        self._say(path)
        if found.st_nlink > 1 or found.st_size > 1 << 20:
            return
        os.unlink(path)
        self._write(path, self._bytes(found.st_size))
        os.utime(path, ns=(found.st_mtime_ns, found.st_mtime_ns))

    def same_look_from_outside(self) -> None:
        """As `same_look`, but the file is written in an unwatched directory and moved in."""
        path = self._file()
        found = os.stat(path)
        self._say(path)
        if found.st_nlink > 1 or found.st_size > 1 << 20:
            return
        passing = self._outside + b"/passing"
        os.unlink(path)
        self._write(passing, self._bytes(found.st_size))
        os.utime(passing, ns=(found.st_mtime_ns, found.st_mtime_ns))
        os.rename(passing, path)

    def flash(self) -> None:
        """Creates an object and removes it at once."""
        path = self._fresh()
        self._say(path)
        self._write(path, self._bytes(100))
        os.unlink(path)

    def written_then_unlinked(self) -> None:
        """Writes to a file through one of its names, then removes that name."""
        path, to = self._file(), self._fresh()
        self._say(path, to, os.stat(path).st_ino)
        os.link(path, to)
        with open(path, "ab") as file:
            file.write(self._bytes(40))
        os.unlink(path)


def _acl(user: int, rights: int) -> bytes:
    """A POSIX ACL with one named user, as linux/posix_acl_xattr.h lays it out."""
    entries = ((0x01, 7, -1), (0x02, rights, user), (0x04, 5, -1), (0x10, 7, -1), (0x20, 5, -1))
    packed = (struct.pack("<HHI", tag, allowed, who & 0xFFFFFFFF) for tag, allowed, who in entries)
    return struct.pack("<I", 2) + b"".join(packed)


_OFTEN = {"create": 6, "append": 3, "write_within": 3, "mkdir": 3, "rename": 3, "nest": 2, "rename_tree": 3}
_ASKED_FOR = ("work", "huge", "large", "map_and_store")
WEIGHTS = {
    name: _OFTEN.get(name, 1)
    for name, method in vars(Applicant).items()
    if callable(method) and not name.startswith("_") and name not in _ASKED_FOR
}
"""The operations that are chosen by chance, each with its share: not what costs much, nor what only a scan finds."""


def main() -> None:
    """Serves lines until standard input ends."""
    outside, *roots = (os.fsencode(path) for path in sys.argv[1:])
    applicant = Applicant(roots, outside)
    for line in sys.stdin:
        seed, count, *names = line.split()
        print(json.dumps(applicant.work(int(seed), int(count), names)), flush=True)


if __name__ == "__main__":
    main()
