"""Opens the directories of a replica for whoever reads them as a whole, and makes sure that they are the right ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from i2core.api import Code, StopRule
from i2core.config.places import beneath
from i2core.posix.identity import Standing
from i2core.posix.opening import BASE, READABLE
from i2core.posix.path_text import as_path
from i2core.posix.syscalls import open_beneath
from i2core.rule.backup.replica.position import Position


@contextmanager
def open_roots(position: Position, allowed: Sequence[bytes]) -> Iterator[list[int]]:
    """Descriptors of the directories, by root, within the block. No symlink is followed beneath the allowed ones. For
    worker threads.

    Raises:
        StopRule: one is gone, or another directory has its name (3621).
    """
    with ExitStack() as stack:
        fds = []
        for number, target in enumerate(position.targets):
            path = as_path(target)
            try:
                fd = _opened(path, allowed)
            except OSError as error:
                raise _gone(path, error.strerror or "") from error
            stack.callback(os.close, fd)
            known = position.roots[number] if number < len(position.roots) else ""
            if not _is(fd, known):
                raise _gone(path, "another directory has its name")
            fds.append(fd)
        yield fds


def _opened(path: bytes, allowed: Sequence[bytes]) -> int:
    base = max((each for each in allowed if beneath(path, each)), key=len, default=b"/")
    relative = os.path.relpath(path, base)
    base_fd = os.open(base, BASE)
    try:
        if relative == b".":
            return os.open(b".", READABLE, dir_fd=base_fd)
        return open_beneath(base_fd, relative, READABLE)
    finally:
        os.close(base_fd)


def _is(fd: int, known: str) -> bool:
    """True unless the sink that wrote there has noted another directory, in the words of `Standing`."""
    try:
        before = Standing.decode(known)
    except ValueError:
        return True
    return before.here.is_same(Standing.of(fd).here)


def _gone(path: bytes, why: str) -> StopRule:
    return StopRule(
        f"the target directory is not the one that was written before: {why}",
        code=Code.REPLICA_GONE,
        obj=os.fsdecode(path),
        next_step=Code.REPLICA_GONE.text.next_en,
    )
