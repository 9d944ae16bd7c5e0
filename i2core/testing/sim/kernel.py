"""The kernel of the simulated machines: paths, descriptors and the calls of `os` on simulated disks.

A `Kernel` stands where a module of the product has ``os`` (see `sim.seam`). What it does not know it does not pass on
to the host: a call that is missing here is an AttributeError, never a write to a real disk. One kernel serves all
machines of a world, as their disks are mounted at places of their own.
"""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Iterator, Sequence
from typing import Protocol

from i2core.testing.sim.disk import NAME_BYTES, Disk, Inode, fail
from i2core.testing.sim.machine import Killed, Machine, Violation, running

Path = bytes | str | os.PathLike[str] | os.PathLike[bytes]
_FD_DIR = b"/proc/self/fd/"
_BOOT_ID = b"/proc/sys/kernel/random/boot_id"
_FIRST_FD = 1 << 20
_HARMLESS = frozenset(
    (
        "fsencode",
        "fsdecode",
        "strerror",
        "makedev",
        "major",
        "minor",
        "fspath",
        "PathLike",
        "stat_result",
        "environ",
        "sep",
    )
)
_PATH_BYTES = 4096
_LINKS = 40
_WRITES = os.O_WRONLY | os.O_RDWR


class Status:
    """What stat(2) tells."""

    __slots__ = (
        "st_blocks",
        "st_ctime_ns",
        "st_dev",
        "st_gid",
        "st_ino",
        "st_mode",
        "st_mtime_ns",
        "st_nlink",
        "st_rdev",
        "st_size",
        "st_uid",
    )

    def __init__(self, inode: Inode) -> None:
        disk = inode.disk
        self.st_mode = inode.mode
        self.st_ino = inode.number
        self.st_dev = disk.device
        self.st_nlink = inode.nlink
        self.st_uid = inode.uid
        self.st_gid = inode.gid
        self.st_rdev = inode.rdev
        self.st_size = len(inode.data) or len(inode.target) or (len(inode.entries) * 32 if inode.is_dir else 0)
        self.st_blocks = len(inode.pages) * disk.page_bytes // 512
        self.st_mtime_ns = inode.mtime_ns
        self.st_ctime_ns = inode.ctime_ns


class Watcher(Protocol):
    """Who is told of changes, as inotify tells: by the directory and the name in it."""

    def happened(self, what: str, parent: Inode, name: bytes, inode: Inode) -> None:
        """`what`: create, modify, attrib or remove."""

    def renamed(self, old_parent: Inode, old: bytes, new_parent: Inode, new: bytes, inode: Inode) -> None:
        """A move."""


class _Open:
    """An open file description."""

    __slots__ = ("inode", "name", "owner", "parent", "path_only", "position", "writable")

    def __init__(self, inode: Inode, parent: Inode, name: bytes, flags: int, owner: Machine | None) -> None:
        self.inode = inode
        self.parent = parent
        self.name = name
        self.path_only = bool(flags & os.O_PATH)
        self.writable = bool(flags & _WRITES)
        self.position = 0
        self.owner = owner


class _DirEntry:
    """What scandir gives."""

    __slots__ = ("_inode", "name")

    def __init__(self, name: bytes, inode: Inode) -> None:
        self.name = name
        self._inode = inode

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """As `os.DirEntry.is_dir` without following."""
        return self._inode.is_dir

    def inode(self) -> int:
        """As `os.DirEntry.inode`."""
        return self._inode.number


class _Scan:
    """What scandir returns: an iterator that is a context manager."""

    def __init__(self, entries: list[_DirEntry]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[_DirEntry]:
        return self._entries

    def __next__(self) -> _DirEntry:
        return next(self._entries)

    def __enter__(self) -> _Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is held."""


class _Paths:
    """What stands for ``os.path``."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def __getattr__(self, name: str) -> object:
        if name not in ("basename", "dirname", "join", "split", "normpath", "isabs", "commonpath", "sep"):
            raise AttributeError(f"the simulated kernel lacks os.path.{name}")
        return getattr(os.path, name)

    def _found(self, path: Path, *, follow: bool) -> Inode | None:
        try:
            return self._kernel.find(path, follow=follow)
        except OSError:
            return None

    def lexists(self, path: Path) -> bool:
        """As `os.path.lexists`."""
        return self._found(path, follow=False) is not None

    def exists(self, path: Path) -> bool:
        """As `os.path.exists`."""
        return self._found(path, follow=True) is not None

    def isdir(self, path: Path) -> bool:
        """As `os.path.isdir`."""
        found = self._found(path, follow=True)
        return found is not None and found.is_dir

    def isfile(self, path: Path) -> bool:
        """As `os.path.isfile`."""
        found = self._found(path, follow=True)
        return found is not None and stat.S_ISREG(found.mode)

    def islink(self, path: Path) -> bool:
        """As `os.path.islink`."""
        found = self._found(path, follow=False)
        return found is not None and stat.S_ISLNK(found.mode)

    def getsize(self, path: Path) -> int:
        """As `os.path.getsize`."""
        return self._kernel.stat(path).st_size

    @staticmethod
    def samestat(one: Status, other: Status) -> bool:
        """As `os.path.samestat`."""
        return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


class Kernel:
    """All mounted disks beneath one root, and the open descriptors."""

    def __init__(self, root: Disk, *, host: bytes = b"") -> None:
        """`host`: the one directory of the real host that the product may use, for files that others write there."""
        self.root = root.root
        self._host = host
        self._host_fds: set[int] = set()
        self.path = _Paths(self)
        self.watchers: list[Watcher] = []
        self._above: dict[Inode, Inode] = {}
        """The directory that each mounted root covers."""
        self._open: dict[int, _Open] = {}
        self._next_fd = _FIRST_FD

    def __getattr__(self, name: str) -> object:
        found = getattr(os, name)
        if callable(found) and name not in _HARMLESS:
            raise AttributeError(f"the simulated kernel lacks os.{name}")
        return found

    def mount(self, path: bytes, disk: Disk) -> None:
        """The disk's root is at `path` from here on; the directory is there already."""
        at = self.find(path, follow=False)
        at.mounted = disk.root
        self._above[disk.root] = at

    def forget(self, machine: Machine) -> None:
        """The machine is gone: so are its descriptors."""
        for fd in [fd for fd, each in self._open.items() if each.owner is machine]:
            self._drop(fd)

    def open_count(self, machine: Machine) -> int:
        """How many descriptors the machine holds."""
        return sum(each.owner is machine for each in self._open.values())

    # ------------------------------------------------------------------------------------------ paths

    def find(self, path: Path, *, follow: bool = True) -> Inode:
        """The object at an absolute path."""
        return self._existing(path, None, follow=follow)[2]

    def _start(self, path: bytes, dir_fd: int | None) -> tuple[Inode, bytes]:
        if path.startswith(_FD_DIR):
            number, _, rest = path[len(_FD_DIR) :].partition(b"/")
            return self._get(int(number)).inode, rest
        if path.startswith(b"/"):
            return self.root, path
        if dir_fd is None:
            raise AssertionError(f"a path relative to the working directory: {path!r}")
        return self._get(dir_fd).inode, path

    def _locate(self, path: Path, dir_fd: int | None, *, follow: bool) -> tuple[Inode, bytes, Inode | None]:
        raw = os.fsencode(path)
        if b"\0" in raw:
            raise ValueError("embedded null byte")
        if len(raw) >= _PATH_BYTES:
            raise fail(errno.ENAMETOOLONG, raw)
        if not raw:
            raise fail(errno.ENOENT, raw)
        start, rest = self._start(raw, dir_fd)
        return self._walk(start, rest, follow=follow)

    def _existing(self, path: Path, dir_fd: int | None, *, follow: bool) -> tuple[Inode, bytes, Inode]:
        parent, name, inode = self._locate(path, dir_fd, follow=follow)
        if inode is None:
            raise fail(errno.ENOENT, os.fsencode(path))
        return parent, name, inode

    def _walk(
        self, start: Inode, path: bytes, *, follow: bool, beneath: Inode | None = None, links: int = 0
    ) -> tuple[Inode, bytes, Inode | None]:
        """The directory, the name in it, and what has that name. With `beneath` no symlink is followed, and no way
        leads out of that directory."""
        parts = [part for part in path.split(b"/") if part and part != b"."]
        parent, here, name = start, start, b"."
        if not parts and path and not here.is_dir:
            raise fail(errno.ENOTDIR, path)
        last = len(parts) - 1
        for index, part in enumerate(parts):
            if not here.is_dir:
                raise fail(errno.ENOTDIR, path)
            if len(part) > NAME_BYTES:
                raise fail(errno.ENAMETOOLONG, path)
            if part == b"..":
                if here is beneath:
                    raise fail(errno.EXDEV, path)
                above = self._above.get(here, here).parent
                parent, here, name = here, above or here, b".."
                continue
            child = here.entries.get(part)
            if child is None:
                if index == last:
                    return here, part, None
                raise fail(errno.ENOENT, path)
            if child.mounted is not None:
                child = child.mounted
            if stat.S_ISLNK(child.mode) and (index < last or follow):
                if beneath is not None or links >= _LINKS:
                    raise fail(errno.ELOOP, path)
                start = self.root if child.target.startswith(b"/") else here
                further = b"/".join([child.target, *parts[index + 1 :]])
                return self._walk(start, further, follow=follow, links=links + 1)
            parent, here, name = here, child, part
        return parent, name, here

    def path_of(self, inode: Inode) -> bytes:
        """A directory's absolute path."""
        parts: list[bytes] = []
        here: Inode | None = inode
        while here is not None and here is not self.root:
            at = self._above.get(here, here)
            above = at.parent
            if above is None:
                break
            parts += [name for name, child in above.entries.items() if child is at][:1]
            here = above
        return b"/" + b"/".join(reversed(parts))

    # ------------------------------------------------------------------------------------------ who asks

    @staticmethod
    def _step() -> None:
        machine = running.get()
        if machine is not None:
            machine.step()

    def _may_write(self, *places: Inode) -> None:
        """A step that changes something.

        Raises:
            Violation: the machine has no business there.
        """
        machine = running.get()
        if machine is None:
            return
        machine.step()
        for place in places:
            here: Inode | None = place
            while here is not None and here not in machine.realms:
                here = here.parent if here.parent is not None else None
            if here is None:
                raise Violation(f"{machine.name} writes in {self.path_of(place)!r}")

    def _tell(self, what: str, parent: Inode, name: bytes, inode: Inode) -> None:
        for watcher in self.watchers:
            watcher.happened(what, parent, name, inode)

    # ------------------------------------------------------------------------------------------ descriptors

    def _get(self, fd: int) -> _Open:
        found = self._open.get(fd)
        if found is None:
            machine = running.get()
            if machine is not None and machine.dead:
                raise Killed
            raise fail(errno.EBADF)
        return found

    def _inode(
        self, target: int | Path, *, follow: bool = True, dir_fd: int | None = None
    ) -> tuple[Inode, bytes, Inode]:
        """(directory, name, object) of a descriptor or a path."""
        if isinstance(target, int):
            held = self._get(target)
            return held.parent, held.name, held.inode
        raw = os.fsencode(target)
        if raw.startswith(_FD_DIR) and b"/" not in raw[len(_FD_DIR) :]:
            held = self._get(int(raw[len(_FD_DIR) :]))
            return held.parent, held.name, held.inode
        return self._existing(raw, dir_fd, follow=follow)

    def open(self, path: Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """As `os.open`."""
        self._step()
        nofollow = bool(flags & os.O_NOFOLLOW) or flags & (os.O_CREAT | os.O_EXCL) == os.O_CREAT | os.O_EXCL
        raw = os.fsencode(path)
        if raw.startswith(_FD_DIR) and b"/" not in raw[len(_FD_DIR) :]:
            held = self._get(int(raw[len(_FD_DIR) :]))
            return self._opened(held.parent, held.name, held.inode, flags)
        if self._is_hosts(raw):
            fd = os.open(raw, flags, mode)
            self._host_fds.add(fd)
            return fd
        if raw == _BOOT_ID:
            return self._opened(self.root, b"boot_id", self._boot_id(), os.O_RDONLY)
        parent, name, inode = self._locate(raw, dir_fd, follow=not nofollow)
        if inode is None:
            if not flags & os.O_CREAT:
                raise fail(errno.ENOENT, raw)
            self._may_write(parent)
            inode = parent.disk.make(parent, name, stat.S_IFREG | mode & 0o7777)
            self._tell("create", parent, name, inode)
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            raise fail(errno.EEXIST, raw)
        elif flags & os.O_CREAT and inode.is_dir:
            raise fail(errno.EISDIR, raw)
        return self._opened(parent, name, inode, flags)

    def _boot_id(self) -> Inode:
        """A file without a name that tells the machine's boot."""
        machine = running.get()
        known = (machine.name, machine.boot) if machine is not None else ("", 0)
        file = Inode(self.root.disk, 0, stat.S_IFREG | 0o444, 0)
        file.data += str(uuid.uuid5(uuid.NAMESPACE_OID, repr(known))).encode()
        return file

    def _opened(self, parent: Inode, name: bytes, inode: Inode, flags: int) -> int:
        path_only = bool(flags & os.O_PATH)
        kind = stat.S_IFMT(inode.mode)
        if flags & os.O_DIRECTORY and not inode.is_dir:
            raise fail(errno.ENOTDIR, name)
        if not path_only:
            if kind == stat.S_IFLNK:
                raise fail(errno.ELOOP, name)
            if inode.is_dir and flags & _WRITES:
                raise fail(errno.EISDIR, name)
            if kind == stat.S_IFSOCK or (kind == stat.S_IFIFO and flags & os.O_WRONLY):
                raise fail(errno.ENXIO, name)
            if flags & os.O_TRUNC and kind == stat.S_IFREG and flags & _WRITES:
                self._may_write(parent)
                if inode.data or inode.pages:
                    inode.disk.truncate(inode, 0)
                    self._tell("modify", parent, name, inode)
        inode.opens += 1
        fd, self._next_fd = self._next_fd, self._next_fd + 1
        self._open[fd] = _Open(inode, parent, name, flags, running.get())
        return fd

    def open_beneath(self, dir_fd: int, path: bytes, flags: int) -> int:
        """As `i2core.api.syscalls.open_beneath`."""
        self._step()
        if b"\0" in path:
            raise ValueError("embedded null byte")
        start = self._get(dir_fd).inode
        parent, name, inode = self._walk(start, path, follow=not flags & os.O_NOFOLLOW, beneath=start)
        if path.startswith(b"/"):
            raise fail(errno.EXDEV, path)
        if inode is None:
            raise fail(errno.ENOENT, path)
        return self._opened(parent, name, inode, flags)

    def _drop(self, fd: int) -> None:
        held = self._get(fd)
        del self._open[fd]
        held.inode.opens -= 1
        held.inode.disk.release(held.inode)

    def _is_hosts(self, path: bytes) -> bool:
        return bool(self._host) and path.startswith(self._host + b"/")

    def close(self, fd: int) -> None:
        """As `os.close`."""
        if fd in self._host_fds:
            self._host_fds.discard(fd)
            os.close(fd)
        else:
            self._drop(fd)

    def dup(self, fd: int) -> int:
        """As `os.dup`."""
        held = self._get(fd)
        held.inode.opens += 1
        new, self._next_fd = self._next_fd, self._next_fd + 1
        self._open[new] = held
        return new

    def _content(self, fd: int, *, writing: bool) -> _Open:
        held = self._get(fd)
        if held.path_only or (writing and not held.writable):
            raise fail(errno.EBADF)
        if held.inode.is_dir:
            raise fail(errno.EISDIR)
        if writing:
            self._may_write(held.parent)
        else:
            self._step()
        return held

    # ------------------------------------------------------------------------------------------ content

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        """As `os.pread`."""
        return bytes(self._content(fd, writing=False).inode.data[offset : offset + length])

    def read(self, fd: int, length: int) -> bytes:
        """As `os.read`."""
        held = self._content(fd, writing=False)
        data = bytes(held.inode.data[held.position : held.position + length])
        held.position += len(data)
        return data

    def preadv(self, fd: int, buffers: Sequence[bytearray | memoryview], offset: int, flags: int = 0) -> int:
        """As `os.preadv`."""
        data = self._content(fd, writing=False).inode.data
        done = 0
        for buffer in buffers:
            piece = data[offset + done : offset + done + len(buffer)]
            buffer[: len(piece)] = piece
            done += len(piece)
        return done

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        """As `os.pwrite`."""
        held = self._content(fd, writing=True)
        done = held.inode.disk.write(held.inode, data, offset)
        self._tell("modify", held.parent, held.name, held.inode)
        return done

    def pwritev(self, fd: int, buffers: Sequence[bytes | bytearray | memoryview], offset: int, flags: int = 0) -> int:
        """As `os.pwritev`."""
        return self.pwrite(fd, b"".join(buffers), offset)

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        """As `os.write`."""
        held = self._get(fd)
        done = self.pwrite(fd, data, held.position)
        held.position += done
        return done

    def ftruncate(self, fd: int, length: int) -> None:
        """As `os.ftruncate`."""
        held = self._content(fd, writing=True)
        held.inode.disk.truncate(held.inode, length)
        self._tell("modify", held.parent, held.name, held.inode)

    def truncate(self, target: int | Path, length: int) -> None:
        """As `os.truncate`."""
        parent, name, inode = self._inode(target)
        self._may_write(parent)
        inode.disk.truncate(inode, length)
        self._tell("modify", parent, name, inode)

    def punch_hole(self, fd: int, offset: int, size: int) -> None:
        """fallocate(2) with PUNCH_HOLE and KEEP_SIZE."""
        if offset < 0 or size <= 0:
            raise fail(errno.EINVAL)
        held = self._content(fd, writing=True)
        held.inode.disk.punch(held.inode, offset, size)
        self._tell("modify", held.parent, held.name, held.inode)

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        """As `os.lseek`."""
        held = self._content(fd, writing=False)
        if whence in (os.SEEK_DATA, os.SEEK_HOLE):
            return held.inode.disk.extent(held.inode, offset, data=whence == os.SEEK_DATA)
        base = {os.SEEK_SET: 0, os.SEEK_CUR: held.position, os.SEEK_END: len(held.inode.data)}[whence]
        held.position = base + offset
        return held.position

    # ------------------------------------------------------------------------------------------ what is there

    def stat(self, target: int | Path, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> Status:
        """As `os.stat`."""
        self._step()
        return Status(self._inode(target, follow=follow_symlinks, dir_fd=dir_fd)[2])

    def lstat(self, path: Path, *, dir_fd: int | None = None) -> Status:
        """As `os.lstat`."""
        return self.stat(path, dir_fd=dir_fd, follow_symlinks=False)

    def fstat(self, fd: int) -> Status:
        """As `os.fstat`."""
        self._step()
        return Status(self._get(fd).inode)

    def readlink(self, path: Path, *, dir_fd: int | None = None) -> bytes:
        """As `os.readlink` of bytes."""
        self._step()
        raw = os.fsencode(path)
        if raw.startswith(_FD_DIR) and b"/" not in raw[len(_FD_DIR) :]:
            return self.path_of(self._get(int(raw[len(_FD_DIR) :])).inode)
        inode = (
            self._get(dir_fd).inode if not raw and dir_fd is not None else self._existing(raw, dir_fd, follow=False)[2]
        )
        if not stat.S_ISLNK(inode.mode):
            raise fail(errno.EINVAL, raw)
        return inode.target

    def _listed(self, target: int | Path) -> Inode:
        self._step()
        inode = self._inode(target)[2]
        if not inode.is_dir:
            raise fail(errno.ENOTDIR)
        return inode

    def listdir(self, target: int | Path) -> list[bytes] | list[str]:
        """As `os.listdir`: names are bytes where the path is."""
        names = list(self._listed(target).entries)
        return names if isinstance(target, bytes) else [os.fsdecode(name) for name in names]

    def scandir(self, target: bytes) -> _Scan:
        """As `os.scandir` of bytes."""
        return _Scan([_DirEntry(name, inode) for name, inode in self._listed(target).entries.items()])

    def access(self, path: Path, mode: int) -> bool:
        """As `os.access`: root may."""
        return self.path.exists(path)

    def statvfs(self, target: int | Path) -> Room:
        """What the product reads of `os.statvfs`."""
        self._step()
        if not isinstance(target, int) and self._is_hosts(os.fsencode(target)):
            return Room(self.root.disk)
        return Room(self._inode(target)[2].disk)

    fstatvfs = statvfs

    @staticmethod
    def geteuid() -> int:
        """The simulated machines run as root."""
        return 0

    getuid = getegid = getgid = geteuid

    @staticmethod
    def getpid() -> int:
        """Always the same."""
        return 4242

    # ------------------------------------------------------------------------------------------ names

    def mkdir(self, path: Path, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        """As `os.mkdir`."""
        self._make(path, dir_fd, stat.S_IFDIR | mode & 0o1777)

    def makedirs(self, path: Path, mode: int = 0o777, exist_ok: bool = False) -> None:
        """As `os.makedirs`."""
        raw = os.fsencode(path)
        if self._is_hosts(raw):
            os.makedirs(raw, mode, exist_ok)
            return
        above = os.path.dirname(raw)
        if above not in (b"", b"/") and not self.path.exists(above):
            self.makedirs(above, exist_ok=True)
        try:
            self.mkdir(raw, mode)
        except FileExistsError:
            if not exist_ok or not self.path.isdir(raw):
                raise

    def _make(self, path: Path, dir_fd: int | None, mode: int, *, rdev: int = 0, target: bytes = b"") -> None:
        parent, name, inode = self._locate(path, dir_fd, follow=False)
        if inode is not None:
            raise fail(errno.EEXIST, os.fsencode(path))
        self._may_write(parent)
        made = parent.disk.make(parent, name, mode, rdev=rdev, target=target)
        self._tell("create", parent, name, made)

    def symlink(self, target: bytes, path: Path, *, dir_fd: int | None = None) -> None:
        """As `os.symlink`."""
        raw = os.fsencode(target)
        if not raw:
            raise fail(errno.ENOENT, raw)
        self._make(path, dir_fd, stat.S_IFLNK | 0o777, target=raw)

    def mknod(self, path: Path, mode: int = 0o600, device: int = 0, *, dir_fd: int | None = None) -> None:
        """As `os.mknod`."""
        kind = stat.S_IFMT(mode) or stat.S_IFREG
        self._make(path, dir_fd, kind | mode & 0o7777, rdev=device if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0)

    def mkfifo(self, path: Path, mode: int = 0o666, *, dir_fd: int | None = None) -> None:
        """As `os.mkfifo`."""
        self._make(path, dir_fd, stat.S_IFIFO | mode & 0o777)

    def link(
        self,
        source: Path,
        path: Path,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """As `os.link`; a symlink itself is linked, as Linux does."""
        old_parent, _, inode = self._existing(source, src_dir_fd, follow=False)
        parent, name, there = self._locate(path, dst_dir_fd, follow=False)
        if there is not None:
            raise fail(errno.EEXIST, os.fsencode(path))
        self._may_write(old_parent, parent)
        parent.disk.link(inode, parent, name)
        self._tell("create", parent, name, inode)

    def unlink(self, path: Path, *, dir_fd: int | None = None) -> None:
        """As `os.unlink`."""
        parent, name, inode = self._existing(path, dir_fd, follow=False)
        self._may_write(parent)
        if inode.is_dir:
            raise fail(errno.EISDIR, os.fsencode(path))
        parent.disk.unlink(parent, name)
        self._tell("remove", parent, name, inode)

    remove = unlink

    def rmdir(self, path: Path, *, dir_fd: int | None = None) -> None:
        """As `os.rmdir`."""
        raw = os.fsencode(path)
        if raw.rpartition(b"/")[2] == b".":
            raise fail(errno.EINVAL, raw)
        parent, name, inode = self._existing(raw, dir_fd, follow=False)
        self._may_write(parent)
        if inode.disk.root is inode:
            raise fail(errno.EBUSY, raw)
        parent.disk.rmdir(parent, name)
        self._tell("remove", parent, name, inode)

    def rename(self, old: Path, new: Path, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        """As `os.rename`."""
        old_parent, old_name, inode = self._existing(old, src_dir_fd, follow=False)
        new_parent, new_name, _ = self._locate(new, dst_dir_fd, follow=False)
        self._may_write(old_parent, new_parent)
        if new_parent.disk.rename(old_parent, old_name, new_parent, new_name):
            for held in self._open.values():
                if held.inode is inode and held.parent is old_parent and held.name == old_name:
                    held.parent, held.name = new_parent, new_name
            for watcher in self.watchers:
                watcher.renamed(old_parent, old_name, new_parent, new_name, inode)

    replace = rename

    # ------------------------------------------------------------------------------------------ attributes

    def _changing(
        self, target: int | Path, *, follow: bool = True, dir_fd: int | None = None
    ) -> tuple[Inode, bytes, Inode]:
        found = self._inode(target, follow=follow, dir_fd=dir_fd)
        # A root's own attributes belong to who may write in it.
        self._may_write(found[2] if found[2].is_dir else found[0])
        return found

    def chmod(self, target: int | Path, mode: int, *, dir_fd: int | None = None) -> None:
        """As `os.chmod`."""
        parent, name, inode = self._changing(target, dir_fd=dir_fd)
        if stat.S_ISLNK(inode.mode):
            raise fail(errno.EOPNOTSUPP)
        inode.disk.set_mode(inode, mode)
        self._tell("attrib", parent, name, inode)

    fchmod = chmod

    def chown(
        self, target: int | Path, uid: int, gid: int, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> None:
        """As `os.chown`."""
        parent, name, inode = self._changing(target, follow=follow_symlinks, dir_fd=dir_fd)
        inode.disk.set_owner(inode, uid, gid)
        self._tell("attrib", parent, name, inode)

    fchown = chown

    def utime(
        self, target: int | Path, *, ns: tuple[int, int], dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> None:
        """As `os.utime`; only the modification time is kept."""
        parent, name, inode = self._changing(target, follow=follow_symlinks, dir_fd=dir_fd)
        inode.disk.set_mtime(inode, ns[1])
        self._tell("attrib", parent, name, inode)

    def listxattr(self, target: int | Path, *, follow_symlinks: bool = True) -> list[str]:
        """As `os.listxattr`."""
        self._step()
        return list(self._inode(target, follow=follow_symlinks)[2].xattrs)

    def getxattr(self, target: int | Path, name: str, *, follow_symlinks: bool = True) -> bytes:
        """As `os.getxattr`."""
        self._step()
        value = self._inode(target, follow=follow_symlinks)[2].xattrs.get(name)
        if value is None:
            raise fail(errno.ENODATA)
        return value

    def setxattr(self, target: int | Path, name: str, value: bytes, *, follow_symlinks: bool = True) -> None:
        """As `os.setxattr`."""
        parent, at, inode = self._changing(target, follow=follow_symlinks)
        inode.disk.set_xattr(inode, name, bytes(value))
        self._tell("attrib", parent, at, inode)

    def removexattr(self, target: int | Path, name: str, *, follow_symlinks: bool = True) -> None:
        """As `os.removexattr`."""
        parent, at, inode = self._changing(target, follow=follow_symlinks)
        inode.disk.set_xattr(inode, name, None)
        self._tell("attrib", parent, at, inode)

    def has_xattrs(self, dir_fd: int, name: bytes) -> bool:
        """As `i2core.api.syscalls.has_xattrs`."""
        self._step()
        return bool(self._existing(name, dir_fd, follow=False)[2].xattrs)

    # ------------------------------------------------------------------------------------------ durability

    def fsync(self, fd: int) -> None:
        """As `os.fsync`."""
        self._step()
        if fd in self._host_fds:
            return
        inode = self._get(fd).inode
        inode.disk.sync_file(inode)

    fdatasync = fsync

    def sync_filesystem(self, fd: int) -> None:
        """syncfs(2)."""
        self._step()
        self._get(fd).inode.disk.sync()


class Room:
    """What statvfs(2) tells of space."""

    def __init__(self, disk: Disk) -> None:
        self.f_frsize = self.f_bsize = disk.page_bytes
        self.f_bavail = self.f_bfree = disk.free_bytes() // disk.page_bytes
        self.f_blocks = (1 << 50 if disk.capacity_bytes is None else disk.capacity_bytes) // disk.page_bytes
