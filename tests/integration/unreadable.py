"""A directory of the source that cannot be read for a while."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from i2core.api.tree import OpenDirectory
from i2core.posix.tree import LocalTree


def unreadable(monkeypatch: pytest.MonkeyPatch, top: bytes) -> Callable[[bool], None]:
    """The directory and everything beneath it cannot be read, from a call with True to one with False."""
    real, fails = LocalTree.directory, False

    def directory(tree: LocalTree, path: bytes) -> OpenDirectory:
        if fails and (path + b"/").startswith(top + b"/"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(tree, path)

    def fail(now: bool) -> None:
        nonlocal fails
        fails = now

    monkeypatch.setattr(LocalTree, "directory", directory)
    return fail
