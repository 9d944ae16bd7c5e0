"""Full copies of a replica, and of what its history says of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from i2core.api.records import Entry
from i2core.history.read.tree import PastTree

Picture = dict[str, tuple[Any, ...]]
"""By path: mode, time, content, a symlink's text, and the first path of the same object."""


def picture(top: Path) -> Picture:
    """What stands beneath the directory. Times of directories and symlinks are not promised."""
    found: Picture = {}
    groups: dict[int, str] = {}

    def go(directory: bytes, path: str) -> None:
        for name in sorted(os.listdir(directory)):
            if name.startswith(b".i2-"):
                continue
            full, shown = directory + b"/" + name, f"{path}{os.fsdecode(name)}"
            status = os.lstat(full)
            is_file = stat.S_ISREG(status.st_mode)
            content = Path(os.fsdecode(full)).read_bytes() if is_file else b""
            target = os.readlink(full) if stat.S_ISLNK(status.st_mode) else b""
            time_ns = status.st_mtime_ns if is_file else 0
            group = groups.setdefault(status.st_ino, shown)
            found[shown] = (status.st_mode, time_ns, content, target, group)
            if stat.S_ISDIR(status.st_mode):
                go(full, shown + "/")

    go(os.fsencode(top), "")
    return found


def past_picture(tree: PastTree) -> Picture:
    """The same of a moment. Blocks."""
    found: Picture = {}
    groups: dict[int, str] = {}

    def go(path: bytes) -> None:
        with tree.directory(path) as directory:
            entries: list[Entry] = sorted(entry for part in directory.listing(100) for entry in part)
            for entry in entries:
                below = path + b"/" + entry.name if path else entry.name
                shown, content, time_ns = os.fsdecode(below), b"", 0
                if stat.S_ISREG(entry.mode):
                    time_ns = entry.mtime_ns
                    with directory.open(entry.name) as file:
                        content = bytes(file.read(0, entry.size))
                group = groups.setdefault(entry.ino, shown)
                found[shown] = (entry.mode, time_ns, content, entry.target, group)
                if stat.S_ISDIR(entry.mode):
                    go(below)

    go(b"")
    return found


def differing(found: Picture, right: Picture) -> list[str]:
    """What is not the same, for people."""
    lines = []
    for path in sorted(found.keys() | right.keys()):
        one, other = found.get(path), right.get(path)
        if one != other:
            lines.append(f"{path}: {_short(one)} instead of {_short(other)}")
    return lines


def _short(state: tuple[Any, ...] | None) -> object:
    if state is None:
        return "nothing"
    mode, time_ns, content, target, group = state
    return oct(mode), time_ns, len(content), content[:20], target, group
