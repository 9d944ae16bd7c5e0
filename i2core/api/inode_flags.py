"""Inode flags, as chattr(1) sets them, and project ids, for rules that carry them.

Both are one number: the flags (``FS_*_FL`` of linux/fs.h) times 2^32, plus the project id. So whoever compares, keeps
or sends them has one value more, like a mode, and what a file system can hold of them is a mask of the same form.

Carried are the flags of `CARRIED` alone, and nothing else is ever set, whatever a peer sends. The others say how a file
system keeps an object (extents, inline data), cannot be set on one that is not empty (casefold), or belong to something
that is not replicated (encryption, verity).
"""

from __future__ import annotations

import stat

LETTERS = {
    0x1: "s",
    0x2: "u",
    0x4: "c",
    0x8: "S",
    0x10: "i",
    0x20: "a",
    0x40: "d",
    0x80: "A",
    0x400: "m",
    0x800: "E",
    0x4000: "j",
    0x8000: "t",
    0x10000: "D",
    0x20000: "T",
    0x100000: "V",
    0x800000: "C",
    0x2000000: "x",
    0x20000000: "P",
    0x40000000: "F",
}
"""Flags that somebody has set, by the letters of chattr(1)."""
LETTERED = sum(LETTERS)
"""All flags that have a letter; others say how a file system keeps an object, and nearly every object has one."""
CARRIED = sum(flag for flag, letter in LETTERS.items() if letter in "aAcCdDimPS")
"""Flags that can be replicated."""
PINS = 0x10 | 0x20
"""Immutable and append-only: an object that has one cannot be changed, renamed, linked or removed, not even by root."""
NOCOW = 0x800000
"""Content is overwritten in place. Only an empty file can get it or lose it."""
OF_DIRECTORIES = 0x10000 | 0x20000000
"""Only directories have these: synchronous names, and a project that is inherited."""
PROJECT = 0xFFFFFFFF
"""The part of the number that is the project id."""
EVERY_FLAG = CARRIED << 32 | PROJECT
"""All that can be carried, as a mask."""
UNREAD = -1
"""In the place of the number: the rule does not carry flags, the object is of a kind that has none, or they cannot be
read. They are left as they are."""


def packed(flags: int, project: int) -> int:
    """Raw inode flags and a project id as one number; what is not carried is left out."""
    return (flags & CARRIED) << 32 | project


def flags_of(value: int) -> int:
    """The inode flags of a number."""
    return value >> 32


def may_have_flags(mode: int) -> bool:
    """True for what can have flags: regular files and directories. Others cannot be opened without doing something."""
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def same_flags(one: int, other: int, mask: int = EVERY_FLAG) -> bool:
    """True when both are equal in what the mask holds, or one is not known."""
    return UNREAD in (one, other) or not (one ^ other) & mask


def letters_of(flags: int) -> str:
    """Raw flags by the letters of chattr(1)."""
    return "".join(sorted(letter for flag, letter in LETTERS.items() if flags & flag))
