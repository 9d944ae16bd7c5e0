"""Finds out what a full file system lacks: bytes, inodes or quota, and how much there is."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


class Shortage(NamedTuple):
    """Why a write had no room. `inodes`: there is space, but not for another file."""

    inodes: bool
    en: str
    zh: str


def shortage(error: OSError, where: str, needed: int = 0) -> Shortage:
    """What the file system of `where` (or of the nearest directory above it that is there) lacks, for people. `needed`:
    bytes that did not fit."""
    if error.errno == errno.EDQUOT:
        return Shortage(False, "the quota there is used up", "该处配额已用尽")
    room = _room(where)
    if room is None:
        return Shortage(False, "no space is left there", "该处没有剩余空间")
    free, size = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    files = getattr(room, "f_files", 0)
    if files and not room.f_favail:
        en = f"all {files} inodes of that file system are used; {amount(free)} are free"
        return Shortage(True, en, f"该文件系统的 {files} 个 inode 已全部使用；剩余空间 {amount(free)}")
    en, zh = f"{amount(free)} of {amount(size)} are free", f"剩余 {amount(free)}，共 {amount(size)}"
    if needed:
        en, zh = f"{en}, and {amount(needed)} more do not fit", f"{zh}，还需 {amount(needed)}"
    return Shortage(False, en, zh)


def amount(count: int) -> str:
    """A number of bytes in three digits."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {_UNITS[unit]}"


def _room(where: str) -> os.statvfs_result | None:
    while True:
        try:
            return os.statvfs(where)
        except (FileNotFoundError, NotADirectoryError):
            above = os.path.dirname(where)
            if above == where:
                return None
            where = above
        except (OSError, ValueError):
            return None
