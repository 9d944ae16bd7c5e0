"""The lock of a state directory: two writers of one catalog or journal would corrupt it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from i2core.api import Code, UsageError
from i2core.config.words import bilingual
from i2core.posix.locks import lock


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Locks `state_dir` (created with mode 0700 if missing) for this process; the kernel releases the lock when the
    process ends, even by a crash.

    Raises:
        UsageError: another process holds the lock, or the directory cannot be created.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(
            error.strerror or str(error),
            obj=str(state_dir),
            next_step=bilingual("choose a state_dir that this user may write", "请选择可写的 state_dir"),
        ) from error
    try:
        if not lock(fd, alone=True):
            owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise UsageError(
                bilingual(f"process {owner} is using this state directory", f"进程 {owner} 正在使用该状态目录"),
                code=Code.DUPLICATE_TASK,
                obj=str(state_dir),
                next_step=bilingual("stop it first, or choose another state_dir", "请先停止它，或选择其他 state_dir"),
            )
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def is_locked(state_dir: Path) -> bool:
    """True when another process holds the lock of `state_dir`. Changes nothing on disk."""
    try:
        fd = os.open(state_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not lock(fd, alone=False)
    finally:
        os.close(fd)
