"""The kernel of the simulated machines: the calls of `os` on simulated disks.

A `Kernel` replaces ``os`` in the modules of the product (see `sim.seam`). Unknown calls are not passed on to the host:
a call that is missing here is an AttributeError, never a write to a real disk. One kernel serves all machines of a
world, since their disks are mounted at different places.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from i2core.posix.mounts import Mount
from i2core.testing.sim.answers import DirEntry, Room, Scan, Status
from i2core.testing.sim.descriptors import Descriptors, Open, Path
from i2core.testing.sim.disk import Disk
from i2core.testing.sim.inode import Inode, fail
from i2core.testing.sim.machine import SYNC, Violation, running
from i2core.testing.sim.oracle import STORE

_HARMLESS = frozenset(
    ("fsencode", "fsdecode", "strerror", "makedev", "major", "minor", "fspath", "PathLike", "stat_result", "sep")
)


@contextmanager
def _syncing() -> Iterator[None]:
    """A machine may die before a sync, and after it, before the sync is reported."""
    machine = running.get()
    if machine is not None:
        machine.step(SYNC)
    yield
    if machine is not None:
        machine.step(SYNC)


class _Paths:
    """Replaces ``os.path``."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def __getattr__(self, name: str) -> object:
        if name not in ("basename", "dirname", "join", "split", "normpath", "isabs", "commonpath", "sep"):
            raise AttributeError(f"the simulated kernel lacks os.path.{name}")
        return getattr(os.path, name)

    def _found(self, path: Path, *, follow: bool) -> Inode | None:
        """Of a path on the real host only whether it is there: then a file without content stands for it."""
        here = self._kernel.on_host(path)
        if here is not None:
            return self._kernel.root if os.path.lexists(here) else None
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


class Kernel(Descriptors):
    """Replaces ``os``, with a method for each call that the product makes."""

    def __init__(self, root: Disk, *, hosts: Callable[[bytes], bytes | None] = lambda path: None) -> None:
        """`hosts` as in `Descriptors`."""
        super().__init__(root, hosts=hosts)
        self.path = _Paths(self)

    def __getattr__(self, name: str) -> object:
        found = getattr(os, name)
        if callable(found) and name not in _HARMLESS:
            raise AttributeError(f"the simulated kernel lacks os.{name}")
        return found

    def on_host(self, path: Path) -> bytes | None:
        """Where it is on the real host; None: it is simulated."""
        return self._hosts(os.fsencode(path))

    def _content(self, fd: int, *, writing: bool) -> Open:
        held = self._get(fd)
        if held.path_only or (writing and not held.writable):
            raise fail(errno.EBADF)
        if held.inode.is_dir:
            raise fail(errno.EISDIR)
        if not stat.S_ISREG(held.inode.mode):
            raise fail(errno.ESPIPE)
        if writing:
            self._may_write(held.parent)
        else:
            self._step()
            self._may_read(held.inode)
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
        if offset < 0:
            raise fail(errno.EINVAL)
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
        if length < 0:
            raise fail(errno.EINVAL)
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

    def posix_fallocate(self, fd: int, offset: int, length: int) -> None:
        """As `os.posix_fallocate` behind the end of a file: the new blocks have zeros."""
        self.pwrite(fd, bytes(length), offset)

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
        inode = self._inode(target, follow=follow_symlinks, dir_fd=dir_fd)[2]
        if dir_fd is not None:
            self._may_read(inode)
        return Status(inode)

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
        magic = self._magic(raw)
        if magic is not None:
            return self.path_of(magic.inode)
        inode = self._existing(raw, dir_fd, follow=False)[2] if raw else self._get(dir_fd or 0).inode
        if not stat.S_ISLNK(inode.mode):
            raise fail(errno.EINVAL, raw)
        return inode.target

    def _listed(self, target: int | Path) -> Inode:
        self._step()
        self._may_open()
        inode = self._inode(target)[2]
        if not inode.is_dir:
            raise fail(errno.ENOTDIR)
        self._may_read(inode)
        return inode

    def listdir(self, target: int | Path) -> list[bytes] | list[str]:
        """As `os.listdir`: names are bytes where the path is."""
        here = None if isinstance(target, int) else self.on_host(target)
        names = sorted(os.listdir(here)) if here is not None else list(self._listed(target).entries)
        return names if isinstance(target, bytes) else [os.fsdecode(name) for name in names]

    def scandir(self, target: bytes) -> Scan:
        """As `os.scandir` of bytes."""
        return Scan([DirEntry(name, inode) for name, inode in self._listed(target).entries.items()])

    def access(self, path: Path, mode: int) -> bool:
        """As `os.access` for root, who may do everything."""
        return self.path.exists(path)

    def statvfs(self, target: int | Path) -> Room:
        """As `os.statvfs`, with the fields that the product reads."""
        self._step()
        if not isinstance(target, int) and self.on_host(target) is not None:
            return Room(self.root.disk)
        return Room(self._inode(target)[2].disk)

    fstatvfs = statvfs

    @staticmethod
    def geteuid() -> int:
        """The simulated machines run as root."""
        return 0

    getuid = getegid = getgid = geteuid

    @staticmethod
    def urandom(size: int) -> bytes:
        """As `os.urandom`, but the same in each history."""
        return bytes(range(size))

    @staticmethod
    def getpid() -> int:
        """As `os.getpid`, but always the same."""
        return 4242

    def born_ns(self, fd: int) -> int:
        """As `i2core.posix.syscalls.born_ns`."""
        self._step()
        return self._get(fd).inode.born_ns

    def is_mount_root(self, fd: int) -> bool:
        """As `i2core.posix.syscalls.is_mount_root`."""
        inode = self._get(fd).inode
        return inode is inode.disk.root

    def mount_of(self, fd: int) -> int:
        """As `i2core.posix.mounts.mount_of`: each disk is mounted once, as a whole."""
        return self._get(fd).inode.disk.device

    @staticmethod
    def read_mounts() -> list[Mount]:
        """As `i2core.posix.mounts.read_mounts`, where only whole disks count: none shows a part of one."""
        return []

    def inode_flags(self, fd: int) -> int:
        """As `i2core.posix.syscalls.inode_flags`; no flags are ever set."""
        self._get(fd)
        return 0

    # ------------------------------------------------------------------------------------------ names

    def mkdir(self, path: Path, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        """As `os.mkdir`."""
        self._make(path, dir_fd, stat.S_IFDIR | mode & 0o1777)

    def makedirs(self, path: Path, mode: int = 0o777, exist_ok: bool = False) -> None:
        """As `os.makedirs`."""
        raw, here = os.fsencode(path), self.on_host(path)
        if here is not None:
            os.makedirs(here, mode, exist_ok)
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
        machine = running.get()
        if machine is not None and parent in machine.stores and parent not in machine.realms:
            machine.realms.append(made)
            if not name.startswith(STORE):
                raise Violation(f"{machine.name} makes {name!r} beside the replica")
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
        magic = self._magic(os.fsencode(source))  # of an open file, as AT_SYMLINK_FOLLOW
        if magic is not None:
            old_parent, inode = magic.parent, magic.inode
        else:
            old_parent, _, inode = self._existing(source, src_dir_fd, follow=False)
        parent, name, there = self._locate(path, dst_dir_fd, follow=False)
        if there is not None:
            raise fail(errno.EEXIST, os.fsencode(path))
        self._may_write(old_parent, parent)
        parent.disk.link(inode, parent, name)
        self._tell("create", parent, name, inode)

    def unlink(self, path: Path, *, dir_fd: int | None = None) -> None:
        """As `os.unlink`."""
        here = None if dir_fd is not None else self.on_host(path)
        if here is not None:
            os.unlink(here)
            return
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
        host = (None, None) if src_dir_fd is not None else (self.on_host(old), self.on_host(new))
        if host[0] is not None and host[1] is not None:
            os.rename(host[0], host[1])
            return
        # Both directories are found before either name is looked up.
        old_parent, old_name, inode = self._locate(old, src_dir_fd, follow=False)
        new_parent, new_name, _ = self._locate(new, dst_dir_fd, follow=False)
        if inode is None:
            raise fail(errno.ENOENT, os.fsencode(old))
        self._may_write(old_parent, new_parent)
        if new_parent.disk.rename(old_parent, old_name, new_parent, new_name):
            for held in self._open.values():
                if held.inode is inode and held.parent is old_parent and held.name == old_name:
                    held.parent, held.name = new_parent, new_name
            for watcher in self.watchers:
                watcher.renamed(old_parent, old_name, new_parent, new_name, inode)

    replace = rename

    def rename_new(self, source_fd: int, name: bytes, target_fd: int, new: bytes) -> None:
        """renameat2(2) with RENAME_NOREPLACE."""
        if self._locate(new, target_fd, follow=False)[2] is not None and self._locate(name, source_fd, follow=False)[2]:
            raise fail(errno.EEXIST, new)
        self.rename(name, new, src_dir_fd=source_fd, dst_dir_fd=target_fd)

    def rmtree(self, path: Path, ignore_errors: bool = False) -> None:
        """As `shutil.rmtree` of a tree on the real host, or of an empty simulated directory."""
        here = self.on_host(path)
        if here is not None:
            shutil.rmtree(here, ignore_errors)
        else:
            self.rmdir(path)

    # ------------------------------------------------------------------------------------------ attributes

    def _changing(
        self, target: int | Path, *, follow: bool = True, dir_fd: int | None = None
    ) -> tuple[Inode, bytes, Inode]:
        found = self._inode(target, follow=follow, dir_fd=dir_fd)
        # A machine that may write in a root may change the root's own attributes.
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
        inode = self._inode(target, follow=follow_symlinks)[2]
        self._may_read(inode)
        return list(inode.xattrs)

    def getxattr(self, target: int | Path, name: str, *, follow_symlinks: bool = True) -> bytes:
        """As `os.getxattr`."""
        self._step()
        inode = self._inode(target, follow=follow_symlinks)[2]
        self._may_read(inode)
        value = inode.xattrs.get(name)
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
        """As `i2core.posix.syscalls.has_xattrs`."""
        self._step()
        try:
            inode = self._existing(name, dir_fd, follow=False)[2]
        except OSError:
            return False
        self._may_read(inode)
        return bool(inode.xattrs)

    # ------------------------------------------------------------------------------------------ durability

    def fsync(self, fd: int) -> None:
        """As `os.fsync`."""
        if fd not in self._host_fds:
            inode = self._get(fd).inode
            with _syncing():
                inode.disk.sync_file(inode)

    fdatasync = fsync

    def sync_filesystem(self, fd: int) -> None:
        """syncfs(2)."""
        inode = self._get(fd).inode
        with _syncing():
            inode.disk.sync()
