"""Compares the positions of paths. Paths are absolute bytes; only `real` accesses the disk, to follow symlinks."""

from __future__ import annotations

import os
from collections.abc import Iterable

from i2core.api import Code, UsageError


def beneath(path: bytes, directory: bytes) -> bool:
    """True when `path` is `directory` or is beneath it."""
    return path == directory or path.startswith(directory.rstrip(b"/") + b"/")


def nested(one: bytes, other: bytes) -> bool:
    """True when both are the same, or one is beneath the other."""
    return beneath(one, other) or beneath(other, one)


def real(path: bytes) -> bytes:
    """The path with all symlinks resolved, as far as it exists."""
    return os.path.realpath(path)


def check_target(target: bytes, allow_roots: Iterable[bytes]) -> None:
    """A backup node calls this for each target that a rule asks for, before anything is created.

    Symlinks are resolved on both sides, so that a link beneath an allowed directory does not lead out of it. A link
    may still be changed between this check and a write: the sink guards against that, since it opens paths beneath its
    root only.

    Raises:
        UsageError: (`Code.ILLEGAL_PATH`) not an absolute path without ``.``, ``..`` and NUL, or outside of all allowed
        directories.
    """
    roots = list(allow_roots)
    parts = target.split(b"/")
    name = os.fsdecode(target)
    if not target.startswith(b"/") or b"\0" in target or b"." in parts or b".." in parts:
        raise UsageError(
            "a target must be an absolute path without . and ..",
            code=Code.ILLEGAL_PATH,
            obj=name,
            next_step="correct the rule",
        )
    if not any(beneath(real(target), real(root)) for root in roots):
        allowed = ", ".join(os.fsdecode(root) for root in roots) or "(none)"
        raise UsageError(
            f"the target is outside the allowed directories: {allowed}",
            code=Code.ILLEGAL_PATH,
            obj=name,
            next_step="choose a target beneath one of them, or add to allow_roots on the backup node",
        )
