"""Locks on the directories themselves, so that only one process writes a target.

A target is locked exclusively (flock(2)), and each directory above it, up to ``/``, is locked shared. So a second
process is refused for the same target, for one within it, and for one that contains it, whatever its state directory,
role or container; also by way of a bind mount, unless no mount that is seen here leads to the other target. A missing
target is refused before it is made: the way to it is locked shared. The kernel releases the locks of a process that
dies. Nothing is written.

Sinks of one process share its locks: a rule has a sink for each channel, and core decides which rules may write.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from i2core.api import Code, StopRule
from i2core.posix.ancestors import with_ancestors
from i2core.posix.locks import lock
from i2core.posix.opening import BASE

_LOCKABLE = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LOCKS = "/proc/locks"
_OPEN = b"/proc/self/fd/%d"

Key = tuple[int, int]
"""Device and inode."""


class Taken(Exception):
    """Another process has locked the directory; `pids` as far as they can be seen."""

    def __init__(self, path: str, pids: list[int]) -> None:
        super().__init__(path)
        self.path, self.pids = path, pids

    def refuses(self, target: str) -> StopRule:
        """The error for whoever wants to write `target`."""
        who = f"process {', '.join(map(str, self.pids))}" if self.pids else "another process"
        where = "it" if self.path == target else self.path
        return StopRule(
            f"{who} writes {where} already",
            code=Code.DUPLICATE_TASK,
            obj=target,
            next_step="end that process, or choose another target",
        )


class Claim(NamedTuple):
    """What is held for one target."""

    alone: tuple[Key, ...]
    shared: tuple[Key, ...]


class _Held:
    """A directory that this process has locked, so many times in each way."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.alone = 0
        self.shared = 0


class TargetLocks:
    """The locks of one process. Thread-safe."""

    def __init__(self) -> None:
        self._held: dict[Key, _Held] = {}
        self._guard = threading.Lock()

    def claim(self, root_fd: int, say: Callable[[str], None]) -> Claim:
        """Locks the target that is open as `root_fd`. A directory that the kernel cannot lock, or that another user has
        locked, is reported by `say` and then counts as locked.

        Raises:
            Taken: another process writes it, or a target within it or around it. Nothing is locked then.
        """
        taken = self._climb(root_fd, say, alone=True)
        return Claim((taken[0],), tuple(taken[1:]))

    def claim_way(self, path: bytes, say: Callable[[str], None]) -> Claim:
        """Locks the directories above a target that is not there yet, so that it may be made. For one that is there,
        nothing is locked.

        Raises:
            Taken: another process writes a target around it. Nothing is locked then.
            OSError: a directory above it cannot be opened.
        """
        if os.path.lexists(path):
            return Claim((), ())
        while not os.path.lexists(path):
            path = os.path.dirname(path)
        fd = os.open(path, BASE)
        try:
            return Claim((), tuple(self._climb(fd, say, alone=False)))
        finally:
            os.close(fd)

    def release(self, claim: Claim) -> None:
        """Gives back what `claim` took."""
        with self._guard:
            for key in claim.alone:
                self._give(key, alone=True)
            for key in claim.shared:
                self._give(key, alone=False)

    def _climb(self, first_fd: int, say: Callable[[str], None], *, alone: bool) -> list[Key]:
        """Locks a directory, `alone` or shared, and shared each one above it."""
        taken: list[Key] = []
        with self._guard, closing(with_ancestors(first_fd)) as directories:
            try:
                for fd in directories:
                    key = _key(fd)
                    if key not in taken:
                        self._take(fd, key, alone=alone and not taken, say=say)
                        taken.append(key)
            except BaseException:
                for each in taken:
                    self._give(each, alone=alone and each == taken[0])
                raise
        return taken

    def _take(self, fd: int, key: Key, *, alone: bool, say: Callable[[str], None]) -> None:
        held = self._held.get(key)
        if held is None:
            try:
                held = _Held(os.open(_OPEN % fd, _LOCKABLE))
            except PermissionError:
                # Above the target there may be directories that only others can read: nobody else locks those either.
                held = _Held(-1)
            self._held[key] = held
        before = (held.alone, held.shared)
        held.alone, held.shared = held.alone + alone, held.shared + (not alone)
        # Only a first lock, or one that becomes exclusive, asks the kernel.
        if held.fd < 0 or (before != (0, 0) and not (alone and not before[0])):
            return
        try:
            free = lock(held.fd, alone=bool(held.alone))
        except OSError as error:
            say(f"{_path(held.fd)} cannot be locked against other processes: {error.strerror}")
            return
        if free:
            return
        path, holders = _path(held.fd), _holders(key[1])
        if holders and all(_is_other_users(pid) for pid in holders):
            say(f"process {holders[0]} of another user has locked {path}; this lock is ignored")
            return
        self._give(key, alone=alone)
        raise Taken(path, holders)

    def _give(self, key: Key, *, alone: bool) -> None:
        held = self._held[key]
        held.alone, held.shared = held.alone - alone, held.shared - (not alone)
        if not held.alone and not held.shared:
            del self._held[key]
            if held.fd >= 0:
                os.close(held.fd)
        elif alone and not held.alone and held.fd >= 0:
            lock(held.fd, alone=False)


def _key(fd: int) -> Key:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _path(fd: int) -> str:
    return os.fsdecode(os.readlink(_OPEN % fd))


def _holders(inode: int) -> list[int]:
    """The processes that have a lock on that inode, as the kernel lists them: only those that can be seen from here.

    All of the list is read, of which one call returns a page at most: a user who has many locks must not hide those of
    other processes."""
    found = []
    try:
        with open(_LOCKS, encoding="ascii", errors="replace") as lines:
            for line in lines:
                parts = line.split()
                if len(parts) >= 6 and parts[1] == "FLOCK" and parts[5].rpartition(":")[2] == str(inode):
                    found.append(int(parts[4]))
    except OSError:
        return []
    return [pid for pid in found if pid != os.getpid()]


def _is_other_users(pid: int) -> bool:
    """True for a process of a user who is neither root nor the one that runs this: any local user may lock a directory
    that he can read, and must not be able to stop a replication by that."""
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return False
    return owner not in (0, os.geteuid())
