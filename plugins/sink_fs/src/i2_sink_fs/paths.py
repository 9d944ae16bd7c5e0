"""Finds places beneath a root without ever following a symlink.

Directory fds are kept for one call of the sink alone: between two calls an outsider may put a symlink where a directory
was, and a kept fd would go on writing to wherever that directory was moved. Within a call the sink's own renames
and removals forget what they touch.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

import xxhash

from i2core.api import RESERVED_PREFIX, Code, Place, StopRule, UsageError
from i2core.api.syscalls import open_beneath

DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READABLE = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CACHED_DIRS = 256
"""About so many directory fds does one call keep open; far below the usual limit of 1024 for a process."""
_INHERITED = (b"system.posix_acl_default", b"security.")
"""Attributes of a directory that give new entries attributes of their own."""


class IllegalPath(Exception):
    """A path that no honest record holds: absolute, with ``..``, empty or reserved components."""


class Directory(NamedTuple):
    """An open directory. `inherits`: new entries may get extended attributes from it by themselves."""

    fd: int
    inherits: bool
    device: int


def proc_path(fd: int) -> bytes:
    """A path that leads to the object of `fd` itself (also of an O_PATH fd, also of a symlink)."""
    return b"/proc/self/fd/%d" % fd


def staging_name(name: bytes) -> bytes:
    """The staging file's name. A hash, as a final name may fill all 255 bytes."""
    return RESERVED_PREFIX + b"stage-" + xxhash.xxh3_128_hexdigest(name).encode()


def passing_name(name: bytes) -> bytes:
    """Where a new object is made before it takes `name`. The same at each try, so that a crash leaves nothing that
    the repeat does not overwrite."""
    return RESERVED_PREFIX + b"new-" + xxhash.xxh3_128_hexdigest(name).encode()


def is_name(name: bytes) -> bool:
    """True for what can be one component of a path."""
    return name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name


def check_name(name: bytes) -> bytes:
    """The name, if it can be a replicated entry's.

    Raises:
        IllegalPath: it cannot.
    """
    if name.startswith(RESERVED_PREFIX) or not is_name(name):
        raise IllegalPath(f"the name {os.fsdecode(name)!r} cannot be replicated")
    return name


def split(path: bytes) -> tuple[bytes, bytes]:
    """(directory, name) of a path beneath a root; checks the name alone (directories are checked when opened)."""
    directory, slash, name = path.rpartition(b"/")
    if slash and not directory:
        raise IllegalPath(f"the path {os.fsdecode(path)!r} is absolute")
    return directory, check_name(name)


def open_directory(root_fd: int, path: bytes, flags: int = DIRECTORY) -> int:
    """The directory at `path` (``b""``: the root itself), opened without following a symlink.

    Raises:
        IllegalPath: the path is not one of the honest kind.
        OSError: ENOENT, ENOTDIR or ELOOP where no directory is.
    """
    if not path:
        return os.open(b".", flags, dir_fd=root_fd)
    for part in path.split(b"/"):
        check_name(part)
    return open_beneath(root_fd, path, flags)


class Roots:
    """The replica's roots, each held as an allowed directory and a path beneath it.

    The administrator's allowed directory may be reached through symlinks; below it none is followed.
    """

    def __init__(self, roots: Sequence[bytes], allowed: Sequence[bytes]) -> None:
        """Opens the allowed directories; makes missing roots, and the directories above them, with mode 0755.

        Raises:
            UsageError: a root is outside of all allowed directories, or there is no way to it without symlinks.
        """
        self.paths = tuple(roots)
        self._allowed: list[int] = []
        self._beneath: list[bytes] = []
        try:
            for root in roots:
                self._add(root, allowed)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._allowed)

    def shown(self, place: Place) -> str:
        """The place as an absolute path for people; bytes that are no text are escaped."""
        path = self.paths[place.root] + (b"/" + place.path if place.path else b"")
        return os.fsdecode(path).encode("utf-8", "backslashreplace").decode()

    def _add(self, root: bytes, allowed: Sequence[bytes]) -> None:
        base_fd, relative = open_allowed(root, allowed)
        self._allowed.append(base_fd)
        self._beneath.append(relative)
        try:
            os.close(make_directories(base_fd, relative))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StopRule(
                    f"no space left for the target directory: {error.strerror}",
                    code=Code.REPLICA_FULL,
                    obj=os.fsdecode(root),
                ) from error
            raise UsageError(
                f"cannot open the target directory: {error.strerror}",
                code=Code.ILLEGAL_PATH,
                obj=os.fsdecode(root),
                next_step="no part of it below the allowed directory may be a symlink or a file",
            ) from error

    def open(self, index: int, flags: int = DIRECTORY) -> int:
        """The root directory, found anew.

        Raises:
            IllegalPath: there is no such root.
            StopRule: it is gone, or something else has its name: a person took it away.
        """
        if not 0 <= index < len(self._allowed):
            raise IllegalPath(f"the rule has no root {index} here")
        relative = self._beneath[index]
        try:
            if relative:
                return open_beneath(self._allowed[index], relative, flags)
            return os.open(b".", flags, dir_fd=self._allowed[index])
        except OSError as error:
            raise StopRule(
                f"the target directory cannot be opened: {error.strerror}",
                code=Code.OPEN_REPLICA,
                obj=os.fsdecode(self.paths[index]),
                next_step="mount it or put it back, then start the rule",
            ) from error

    def close(self) -> None:
        """Closes the allowed directories."""
        for fd in self._allowed:
            os.close(fd)
        self._allowed.clear()


def open_allowed(path: bytes, allowed: Sequence[bytes]) -> tuple[int, bytes]:
    """The allowed directory that `path` lies beneath, opened, and the path relative to it.

    Raises:
        UsageError: there is none.
    """
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if path.startswith(b"/") and b".." not in parts and b"\0" not in path:
        for base in sorted(allowed, key=len, reverse=True):
            above = [part for part in base.split(b"/") if part not in (b"", b".")]
            if base.startswith(b"/") and parts[: len(above)] == above:
                try:
                    return os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), b"/".join(parts[len(above) :])
                except OSError as error:
                    raise UsageError(
                        f"cannot open the allowed directory: {error.strerror}",
                        code=Code.ILLEGAL_PATH,
                        obj=os.fsdecode(base),
                        next_step="create or mount it",
                    ) from error
    raise UsageError(
        "the path is not beneath an allowed directory",
        code=Code.ILLEGAL_PATH,
        obj=os.fsdecode(path),
        next_step="choose a target beneath one of: " + ", ".join(map(os.fsdecode, allowed)),
    )


def make_directories(dir_fd: int, path: bytes) -> int:
    """Opens `path` beneath `dir_fd` and makes what is missing of it (0755), following no symlink."""
    fd = os.open(b".", DIRECTORY, dir_fd=dir_fd)
    for part in path.split(b"/") if path else ():
        try:
            try:
                deeper = os.open(part, DIRECTORY, dir_fd=fd)
            except FileNotFoundError:
                os.mkdir(part, 0o755, dir_fd=fd)
                deeper = os.open(part, DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


class Directories:
    """The directories that one call of the sink has opened, by root and path. A context manager: closes them."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._open: dict[int, dict[bytes, Directory]] = {}
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all that is open."""
        for known in self._open.values():
            for directory in known.values():
                os.close(directory.fd)
        self._open.clear()
        self._count = 0

    def trim(self) -> None:
        """Closes all when much is open. For moments at which nothing that `find` gave is in use: a record needs two
        directories at once, and the number of one that was closed in between may soon be another's."""
        if self._count >= _CACHED_DIRS:
            self.close()

    def shown(self, place: Place) -> str:
        """As `Roots.shown`."""
        return self._roots.shown(place)

    def find(self, root: int, path: bytes) -> Directory:
        """The directory at `path` beneath the root, as `open_directory` and `Roots.open` find it."""
        known = self._open.get(root)
        if known is not None:
            directory = known.get(path)
            if directory is not None:
                return directory
        fd = open_directory(self.find(root, b"").fd, path) if path else self._roots.open(root)
        try:
            names = os.listxattr(proc_path(fd))
        except OSError:
            names = []  # unreadable or unsupported: nothing is inherited that could be read
        inherits = any(name.startswith(_INHERITED_TEXT) for name in names)
        directory = Directory(fd, inherits, os.fstat(fd).st_dev)
        self._open.setdefault(root, {})[path] = directory
        self._count += 1
        return directory

    def forget(self, root: int, path: bytes) -> None:
        """Closes what is open at and beneath `path`: the name no longer means that directory."""
        known = self._open.get(root)
        if not known:
            return
        beneath = path + b"/"
        for stale in [p for p in known if p == path or p.startswith(beneath)]:
            os.close(known.pop(stale).fd)
            self._count -= 1


_INHERITED_TEXT = tuple(os.fsdecode(name) for name in _INHERITED)
