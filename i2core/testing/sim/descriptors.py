"""Descriptors: what each machine has open, and whether it may write there."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Callable
from typing import Protocol

from i2core.testing.sim.disk import Disk
from i2core.testing.sim.inode import Inode, fail
from i2core.testing.sim.machine import WRITE, Killed, Machine, Violation, running
from i2core.testing.sim.namespace import Namespace
from i2core.testing.sim.unread import Scarce, Unread

Path = bytes | str | os.PathLike[str] | os.PathLike[bytes]
_FD_DIR = b"/proc/self/fd/"
_BOOT_ID = b"/proc/sys/kernel/random/boot_id"
_FIRST_FD = 1 << 20
"""Above all descriptors of the host."""
_PATH_BYTES = 4096
_WRITES = os.O_WRONLY | os.O_RDWR


class Watcher(Protocol):
    """Receives changes as from inotify: the directory, and the name in it."""

    def happened(self, what: str, parent: Inode, name: bytes, inode: Inode) -> None:
        """`what`: create, modify, attrib or remove."""

    def renamed(self, old_parent: Inode, old: bytes, new_parent: Inode, new: bytes, inode: Inode) -> None:
        """A rename."""


class Open:
    """An open file description."""

    __slots__ = ("inode", "locked", "name", "owner", "parent", "path_only", "position", "writable")

    def __init__(self, inode: Inode, parent: Inode, name: bytes, flags: int, owner: Machine | None) -> None:
        self.inode = inode
        self.parent = parent
        self.name = name
        self.path_only = bool(flags & os.O_PATH)
        self.writable = bool(flags & _WRITES)
        self.position = 0
        self.owner = owner
        self.locked = ""
        """"shared" or "alone", by flock(2)."""


class Descriptors(Namespace):
    """The open descriptors of all machines, and the calls that open and close them: a method for each call."""

    def __init__(self, root: Disk, *, hosts: Callable[[bytes], bytes | None] = lambda path: None) -> None:
        """`hosts`: where a path leads on the real host, for files that others write there; None: it is simulated."""
        super().__init__(root)
        self.watchers: list[Watcher] = []
        self.unread: Unread | None = None
        self.scarce: Scarce | None = None
        self._hosts = hosts
        self._host_fds: set[int] = set()
        self._open: dict[int, Open] = {}
        self._next_fd = _FIRST_FD

    def forget(self, machine: Machine) -> None:
        """Closes the descriptors of a machine that is gone."""
        for fd in [fd for fd, each in self._open.items() if each.owner is machine]:
            self._drop(fd)

    def open_count(self, machine: Machine) -> int:
        """How many descriptors the machine has open."""
        return sum(each.owner is machine for each in self._open.values())

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
        return self.walk(start, rest, follow=follow)

    def _existing(self, path: Path, dir_fd: int | None, *, follow: bool) -> tuple[Inode, bytes, Inode]:
        parent, name, inode = self._locate(path, dir_fd, follow=follow)
        if inode is None:
            raise fail(errno.ENOENT, os.fsencode(path))
        return parent, name, inode

    # ------------------------------------------------------------------------------------------ who asks

    @staticmethod
    def _step() -> None:
        machine = running.get()
        if machine is not None:
            machine.step()

    def _may_write(self, *places: Inode) -> None:
        """Counts a step that changes something.

        Raises:
            Violation: the machine may not write there.
        """
        machine = running.get()
        if machine is None:
            return
        machine.step(WRITE)
        for place in places:
            here: Inode | None = place
            while here is not None and here not in machine.realms:
                here = here.parent if here.parent is not None else None
            if here is None and place not in machine.stores:
                raise Violation(f"{machine.name} writes in {self.path_of(place)!r}")

    def _may_read(self, inode: Inode) -> None:
        """Counts a read of the object's content or attributes; see `Unread.check`."""
        if self.unread is not None:
            self.unread.check(inode)

    def _may_open(self) -> None:
        """Counts an open; see `Scarce.check`."""
        if self.scarce is not None:
            self.scarce.check()

    def _tell(self, what: str, parent: Inode, name: bytes, inode: Inode) -> None:
        for watcher in self.watchers:
            watcher.happened(what, parent, name, inode)

    # ------------------------------------------------------------------------------------------ descriptors

    def _get(self, fd: int) -> Open:
        found = self._open.get(fd)
        if found is None:
            machine = running.get()
            if machine is not None and machine.dead:
                raise Killed
            raise fail(errno.EBADF)
        return found

    def _magic(self, path: bytes) -> Open | None:
        """The open file to which a link in /proc/self/fd leads; None for any other path."""
        if path.startswith(_FD_DIR) and b"/" not in path[len(_FD_DIR) :]:
            return self._get(int(path[len(_FD_DIR) :]))
        return None

    def _inode(
        self, target: int | Path, *, follow: bool = True, dir_fd: int | None = None
    ) -> tuple[Inode, bytes, Inode]:
        """(directory, name, object) of a descriptor or a path."""
        if isinstance(target, int):
            held = self._get(target)
            return held.parent, held.name, held.inode
        raw = os.fsencode(target)
        magic = self._magic(raw)
        if magic is not None:
            return magic.parent, magic.name, magic.inode
        return self._existing(raw, dir_fd, follow=follow)

    def open(self, path: Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """As `os.open`."""
        self._step()
        self._may_open()
        nofollow = bool(flags & os.O_NOFOLLOW) or flags & (os.O_CREAT | os.O_EXCL) == os.O_CREAT | os.O_EXCL
        raw = os.fsencode(path)
        magic = self._magic(raw)
        if magic is not None:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                return self._unnamed(magic.inode, mode)
            return self._opened(magic.parent, magic.name, magic.inode, flags)
        here = self._hosts(raw)
        if here is not None:
            fd = os.open(here, flags, mode)
            self._host_fds.add(fd)
            return fd
        if raw == _BOOT_ID:
            return self._opened(self.root, b"boot_id", self._boot_id(), os.O_RDONLY)
        parent, name, inode = self._locate(raw, dir_fd, follow=not nofollow)
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            return self._unnamed(inode, mode)
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

    def _unnamed(self, directory: Inode | None, mode: int) -> int:
        """A file without a name. It is gone after a power cut, and takes no space."""
        if directory is None or not directory.is_dir:
            raise fail(errno.ENOTDIR)
        self._may_write(directory)
        file = Inode(directory.disk, 0, stat.S_IFREG | mode & 0o7777, 0)
        return self._opened(directory, b"", file, os.O_RDWR)

    def _boot_id(self) -> Inode:
        """A file without a name that contains the machine's boot id."""
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
            self._may_read(inode)
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
        self._open[fd] = Open(inode, parent, name, flags, running.get())
        return fd

    def open_beneath(self, dir_fd: int, path: bytes, flags: int) -> int:
        """As `i2core.posix.syscalls.open_beneath`."""
        self._step()
        self._may_open()
        if b"\0" in path:
            raise ValueError("embedded null byte")
        start = self._get(dir_fd).inode
        parent, name, inode = self.walk(start, path, follow=not flags & os.O_NOFOLLOW, beneath=start)
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

    def close(self, fd: int) -> None:
        """As `os.close`."""
        if fd in self._host_fds:
            self._host_fds.discard(fd)
            os.close(fd)
        else:
            self._drop(fd)

    def lock(self, fd: int, *, alone: bool) -> bool:
        """As `i2core.posix.locks.lock`."""
        self._step()
        held = self._get(fd)
        held.locked = ""
        others = [each.locked for each in self._open.values() if each.inode is held.inode and each.locked]
        if "alone" in others or (alone and others):
            return False
        held.locked = "alone" if alone else "shared"
        return True

    def dup(self, fd: int) -> int:
        """As `os.dup`."""
        held = self._get(fd)
        held.inode.opens += 1
        new, self._next_fd = self._next_fd, self._next_fd + 1
        self._open[new] = held
        return new
