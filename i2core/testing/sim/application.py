"""The applications that change the sources: one operation at a time, chosen by the seed from all that file systems
offer.

An operation that fails (a name is taken, a file is gone, the disk is full) is skipped, as if the program gave up.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from random import Random

from i2core.testing.sim.inode import Inode
from i2core.testing.sim.kernel import Kernel

NAMES = (b"a", b"b", b"c", b"d", b"e", b"new\nline", b"\xff\xfe", b"n" * 255)
SIZES = (0, 1, 40, 512, 700, 1024, 1500, 2048, 3000, 5000, 9000, 14_000, 20_000)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
_ELSEWHERE = b"/sim/outside"
"""A directory in which nobody may write."""
_TARGETS = (b"a", b"../..", _ELSEWHERE, b"../../outside", b"/sim/replica0", b"nowhere\n")
_DEEPEST = 4
_NO_OPERATIONS = ("work", "lay_trap", "rewrite_unseen", "leave")
"""Methods that are called only by accidents."""
_FAR_NS = (12 * 10**18, -12 * 10**18, 10**27, -(10**27))
"""Times that do not fit in 64 bits."""


class Application:
    """Works beneath `roots` (absolute paths), and moves things to and from `outside`, on the same disk. It has a method
    for each operation that a program may carry out."""

    def __init__(
        self, kernel: Kernel, roots: list[bytes], outside: bytes, chance: Random, *, keeps_times: bool
    ) -> None:
        """`keeps_times`: leaves out operations that give new content an old time."""
        self._kernel = kernel
        self._roots = roots
        self._outside = outside
        self._chance = chance
        self._said: list[str] = []
        left_out = ("same_look",) if keeps_times else ()
        self._operations = [
            (method, _OFTEN.get(name, 1))
            for name, method in vars(Application).items()
            if not name.startswith("_")
            and name not in ("work", "lay_trap", "rewrite_unseen", "leave")
            and name not in left_out
        ]

    def work(self) -> str:
        """Carries out one operation; returns its description."""
        methods, weights = zip(*self._operations, strict=True)
        return self._try(self._chance.choices(methods, weights)[0])

    def lay_trap(self) -> str:
        """As `work`; the operation replaces something by a symlink that leads elsewhere."""
        return self._try(Application._directory_elsewhere)

    def exchange(self) -> str:
        """As `work`; the operation exchanges two directories."""
        return self._try(Application._exchange_directories)

    def leave(self, root: bytes) -> str:
        """Creates a directory with large files there."""
        path = root + b"/z"
        if not self._kernel.path.lexists(path):
            self._kernel.mkdir(path)
        for number in range(6):
            self._write(path + b"/left%d" % number, self._bytes(30_000))
        return "leave"

    def rewrite_unseen(self) -> bytes:
        """Writes other content into a file with one name, and keeps its size and time. Returns the file; empty: there
        is none."""
        files = [path for path in self._all(stat.S_ISREG) if self._fits(self._kernel.find(path, follow=False))]
        if not files:
            return b""
        path = self._chance.choice(files)
        inode = self._kernel.find(path, follow=False)
        at = inode.mtime_ns
        self._write(path, self._bytes(len(inode.data)), 0)
        self._kernel.utime(path, ns=(at, at))
        return path

    @staticmethod
    def _fits(inode: Inode) -> bool:
        return inode.nlink == 1 and not inode.linked and len(inode.pages) * inode.disk.page_bytes >= len(inode.data) > 0

    def _try(self, method: Callable[[Application], None]) -> str:
        self._said = [method.__name__.strip("_")]
        try:
            method(self)
        except OSError as error:
            self._said.append(f"({error.strerror})")
        return " ".join(self._said)

    # ------------------------------------------------------------------------------------------ choosing

    def _say(self, *paths: bytes) -> None:
        self._said += [ascii(path.decode("latin-1").replace("n" * 255, "n…")) for path in paths]

    def _all(self, wanted: Callable[[int], bool]) -> list[bytes]:
        found = []
        waiting = [(root, self._kernel.find(root), 0) for root in self._roots]
        while waiting:
            path, inode, depth = waiting.pop()
            for name, child in inode.entries.items():
                below = path + b"/" + name
                if name.startswith((b".i2-staging-", b".i2-history-")):
                    continue  # a replica's own files: size and time do not show changes of these
                if wanted(child.mode):
                    found.append(below)
                if child.is_dir:
                    waiting.append((below, child, depth + 1))
        return found

    def _existing(self, wanted: Callable[[int], bool] = lambda mode: True) -> bytes:
        found = self._all(wanted)
        if not found:
            raise FileNotFoundError(2, "nothing fits")
        return self._chance.choice(found)

    def _file(self) -> bytes:
        return self._existing(stat.S_ISREG)

    def _directory(self) -> bytes:
        found = [path for path in self._all(stat.S_ISDIR) if path.count(b"/") < _DEEPEST + 2]
        return self._chance.choice(found + self._roots * 2)

    def _fresh(self) -> bytes:
        for _ in range(8):
            path = self._directory() + b"/" + self._chance.choice(NAMES)
            if not self._kernel.path.lexists(path):
                return path
        raise FileExistsError(17, "no name is free")

    def _bytes(self, size: int | None = None) -> bytes:
        size = self._chance.choice(SIZES) if size is None else size
        # Runs of one byte, so that blocks repeat and differences are small.
        return b"".join([bytes([self._chance.randrange(1, 256)]) * 100 for _ in range(size // 100 + 1)])[:size]

    def _write(self, path: bytes, data: bytes, flags: int = os.O_TRUNC) -> None:
        fd = self._kernel.open(path, _CREATE | flags, 0o644)
        try:
            done = 0
            while done < len(data):
                done += self._kernel.pwrite(fd, data[done:], done)
        finally:
            self._kernel.close(fd)

    # ------------------------------------------------------------------------------------------ content

    def create(self) -> None:
        """Creates a file."""
        path = self._fresh()
        self._say(path)
        self._write(path, self._bytes())

    def overwrite(self) -> None:
        """Truncates a file and writes it again."""
        path = self._file()
        self._say(path)
        self._write(path, self._bytes())

    def write_within(self) -> None:
        """Writes some bytes in the middle."""
        path = self._file()
        self._say(path)
        fd = self._kernel.open(path, os.O_WRONLY)
        try:
            size = self._kernel.fstat(fd).st_size
            for _ in range(self._chance.randrange(1, 3)):
                self._kernel.pwrite(
                    fd, self._bytes(self._chance.choice((1, 30, 1500))), self._chance.randrange(size + 1)
                )
        finally:
            self._kernel.close(fd)

    def append(self) -> None:
        """Writes some bytes at the end."""
        path = self._file()
        self._say(path)
        fd = self._kernel.open(path, os.O_WRONLY)
        try:
            for _ in range(self._chance.randrange(1, 3)):
                self._kernel.pwrite(fd, self._bytes(self._chance.choice((1, 60, 2500))), self._kernel.fstat(fd).st_size)
        finally:
            self._kernel.close(fd)

    def sparse(self) -> None:
        """Creates a large file that is mostly a hole."""
        path = self._fresh()
        self._say(path)
        self._write(path, self._bytes(300))
        self._kernel.truncate(path, 30_000)
        fd = self._kernel.open(path, os.O_WRONLY)
        try:
            self._kernel.pwrite(fd, self._bytes(700), self._chance.randrange(29_000))
        finally:
            self._kernel.close(fd)

    def large(self) -> None:
        """Creates a file that is sent in slices."""
        path = self._fresh()
        self._say(path)
        self._write(path, self._bytes(self._chance.choice((13_000, 20_000, 30_000))))

    def cut(self) -> None:
        """Makes a file shorter, or longer by a hole."""
        path = self._file()
        self._say(path)
        self._kernel.truncate(path, self._chance.choice((0, 1, 700, 3000, 12_000)))

    def punch(self) -> None:
        """Punches a hole."""
        path = self._file()
        self._say(path)
        fd = self._kernel.open(path, os.O_WRONLY)
        try:
            self._kernel.punch_hole(
                fd, self._chance.choice((0, 512, 1024, 3072)), self._chance.choice((512, 1024, 5000))
            )
        finally:
            self._kernel.close(fd)

    # ------------------------------------------------------------------------------------------ attributes

    def chmod(self) -> None:
        """Sets another mode."""
        path = self._existing(lambda mode: not stat.S_ISLNK(mode))
        self._say(path)
        self._kernel.chmod(path, self._chance.choice((0o600, 0o644, 0o755, 0o4711, 0o2770)))

    def chown(self) -> None:
        """Sets another owner."""
        path = self._existing()
        self._say(path)
        self._kernel.chown(path, self._chance.choice((0, 1000)), self._chance.choice((0, 100)), follow_symlinks=False)

    def utime(self) -> None:
        """Sets another modification time."""
        path = self._existing()
        self._say(path)
        at = 10**18 + self._chance.getrandbits(50)
        if self._chance.random() < 0.2:
            at = self._chance.choice(_FAR_NS) + self._chance.getrandbits(30)
        self._kernel.utime(path, ns=(at, at), follow_symlinks=False)

    def xattr(self) -> None:
        """Sets or removes an extended attribute."""
        path = self._existing(lambda mode: stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        self._say(path)
        name = self._chance.choice(("user.one", "user.two", "trusted.three"))
        if name in self._kernel.listxattr(path):
            self._kernel.removexattr(path, name)
        else:
            self._kernel.setxattr(path, name, self._bytes(self._chance.choice((0, 5, 300))))

    # ------------------------------------------------------------------------------------------ names

    def link(self) -> None:
        """Gives a file another name."""
        path, to = self._existing(lambda mode: not stat.S_ISDIR(mode)), self._fresh()
        self._say(path, to)
        self._kernel.link(path, to)

    def link_and_write(self) -> None:
        """Gives a file another name, writes through the old one, and removes that."""
        path, to = self._file(), self._fresh()
        self._say(path, to)
        self._kernel.link(path, to)
        self._write(path, self._bytes(60), 0)
        if self._chance.random() < 0.5:
            self._kernel.unlink(path)

    def unlink(self) -> None:
        """Removes a name."""
        path = self._existing(lambda mode: not stat.S_ISDIR(mode))
        self._say(path)
        self._kernel.unlink(path)

    def rename(self) -> None:
        """Renames an object to a free name."""
        path, to = self._existing(), self._fresh()
        self._say(path, to)
        self._kernel.rename(path, to)

    def rename_over(self) -> None:
        """Renames an object to the name of another one."""
        path, to = self._existing(), self._existing()
        self._say(path, to)
        self._kernel.rename(path, to)

    def rename_tree(self) -> None:
        """Renames a directory that contains a file which is being written."""
        path, to = self._existing(stat.S_ISDIR), self._fresh()
        self._say(path, to)
        fd = self._kernel.open(path + b"/busy", _CREATE, 0o600)
        try:
            self._kernel.write(fd, self._bytes(100))
            self._kernel.rename(path, to)
            self._kernel.write(fd, self._bytes(1024))
            self._write(to + b"/late", self._bytes(10))
        finally:
            self._kernel.close(fd)

    def swap(self) -> None:
        """Exchanges the names of two objects by way of a third name."""
        one, other = self._existing(), self._existing()
        passing = os.path.dirname(one) + b"/passing"
        self._say(one, other)
        if (other + b"/").startswith(one + b"/") or (one + b"/").startswith(other + b"/"):
            return
        self._kernel.rename(one, passing)
        self._kernel.rename(other, one)
        self._kernel.rename(passing, other)

    def save(self) -> None:
        """Saves like an editor: renames a temporary file over the old one."""
        path = self._file()
        self._say(path)
        passing = os.path.dirname(path) + b"/.save"
        self._write(passing, self._bytes())
        self._kernel.rename(passing, path)

    def rotate(self) -> None:
        """Rotates a file like logrotate."""
        log = self._directory() + b"/log"
        self._say(log)
        for old, new in ((log + b".1", log + b".2"), (log, log + b".1")):
            if self._kernel.path.lexists(old):
                self._kernel.rename(old, new)
        self._write(log, self._bytes(200))

    def move_out(self) -> None:
        """Moves an object out of the source."""
        path = self._existing()
        self._say(path)
        self._kernel.rename(path, self._outside + b"/%d" % self._chance.getrandbits(40))

    def move_in(self) -> None:
        """Moves an object into the source."""
        there = list(self._kernel.find(self._outside).entries)
        if there:
            path, to = self._outside + b"/" + self._chance.choice(there), self._fresh()
            self._say(path, to)
            self._kernel.rename(path, to)

    # ------------------------------------------------------------------------------------------ kinds, trees

    def mkdir(self) -> None:
        """Creates a directory."""
        path = self._fresh()
        self._say(path)
        self._kernel.mkdir(path, 0o755)

    def nest(self) -> None:
        """Creates nested directories with a file in each."""
        path = self._fresh()
        self._say(path)
        for _ in range(3):
            self._kernel.mkdir(path, 0o755)
            self._write(path + b"/file", self._bytes(20))
            path += b"/deeper"

    def many(self) -> None:
        """Creates many small files at once."""
        path = self._fresh()
        self._say(path)
        self._kernel.mkdir(path, 0o755)
        for number in range(self._chance.randrange(5, 14)):
            self._write(path + b"/%d" % number, self._bytes(self._chance.randrange(60)))

    def bulk(self) -> None:
        """Creates some files at once, two of which fill a message."""
        path = self._fresh()
        self._say(path)
        self._kernel.mkdir(path, 0o755)
        for number in range(3):
            self._write(path + b"/%d" % number, self._bytes(self._chance.choice((5000, 7000, 7900))))

    def symlink(self) -> None:
        """Creates a symlink, perhaps to a place where nothing may be written."""
        path = self._fresh()
        self._say(path)
        self._kernel.symlink(self._chance.choice(_TARGETS), path)

    def symlink_for_directory(self) -> None:
        """Replaces a directory by a symlink."""
        self._directory_elsewhere(_TARGETS)

    def _directory_elsewhere(self, targets: Sequence[bytes] = (_ELSEWHERE,)) -> None:
        path = self._existing(stat.S_ISDIR)
        self._say(path)
        self._kernel.rename(path, self._outside + b"/%d" % self._chance.getrandbits(40))
        self._kernel.symlink(self._chance.choice(targets), path)

    def _exchange_directories(self) -> None:
        one, other = self._existing(stat.S_ISDIR), self._existing(stat.S_ISDIR)
        self._say(one, other)
        passing = self._outside + b"/%d" % self._chance.getrandbits(40)
        self._kernel.rename(one, passing)
        self._kernel.rename(other, one)
        self._kernel.rename(passing, other)

    def directory_for_other(self) -> None:
        """Replaces a non-directory by a directory."""
        path = self._existing(lambda mode: not stat.S_ISDIR(mode))
        self._say(path)
        self._kernel.unlink(path)
        self._kernel.mkdir(path)
        self._write(path + b"/in", self._bytes(10))

    def fifo(self) -> None:
        """Creates a FIFO."""
        path = self._fresh()
        self._say(path)
        self._kernel.mkfifo(path, 0o600)

    def device(self) -> None:
        """Creates a device node."""
        path = self._fresh()
        self._say(path)
        self._kernel.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, self._chance.choice((3, 5, 7))))

    def rmtree(self) -> None:
        """Removes a directory with everything in it."""
        path = self._existing(stat.S_ISDIR)
        self._say(path)
        self._clear(path)

    def _clear(self, path: bytes) -> None:
        inode = self._kernel.find(path, follow=False)
        if not inode.is_dir:
            self._kernel.unlink(path)
            return
        for name in list(inode.entries):
            self._clear(path + b"/" + name)
        self._kernel.rmdir(path)

    def tree_anew(self) -> None:
        """Removes a directory and creates another one under its name, with other entries."""
        path = self._existing(stat.S_ISDIR)
        self._say(path)
        self._clear(path)
        self._kernel.mkdir(path)
        self._write(path + b"/" + self._chance.choice(NAMES), self._bytes(30))

    def flash(self) -> None:
        """Creates an object and removes it at once."""
        path = self._fresh()
        self._say(path)
        self._write(path, self._bytes(100))
        self._kernel.unlink(path)

    def same_look(self) -> None:
        """Writes other content with the same size and time, often into the same inode."""
        path = self._file()
        self._say(path)
        found: Inode = self._kernel.find(path, follow=False)
        if found.nlink > 1:
            return
        size, at = len(found.data), found.mtime_ns
        self._kernel.unlink(path)
        self._write(path, self._bytes(size))
        self._kernel.utime(path, ns=(at, at))

    def sync(self) -> None:
        """Syncs the disk: all changes so far survive a power cut."""
        self._kernel.find(self._outside).disk.sync()


_OFTEN = {
    "create": 6,
    "append": 3,
    "write_within": 3,
    "mkdir": 3,
    "rename": 3,
    "rename_tree": 3,
    "nest": 2,
    "save": 2,
    "bulk": 2,
}
