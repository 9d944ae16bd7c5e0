"""The backup node's side of a mirror: decides what an entry of the source's listing needs, given the replica's entry.
No input or output here."""

from __future__ import annotations

import os
import stat

from i2core.api import BLOCK_BYTES, Entry
from i2core.api.drivers import EVERY_TIME, Times
from i2core.api.inode_flags import EVERY_FLAG, NOCOW, same_flags
from i2core.api.records import UNREADABLE
from i2core.wire.listing import Listed, Verdict

_BLOCKS_META = Verdict.BLOCKS | Verdict.META
"""Joining two members of an enum costs more than a system call, and a strict compare does it for each file."""
Path = tuple[int, bytes]
"""Root index and path of an object on the replica."""


def same_time(entry: Entry, there: Entry, times: Times) -> bool:
    """True when the replica's mtime equals the source's, as precisely as its file system can store it."""
    return entry.mtime_ns == there.mtime_ns or times.kept(entry.mtime_ns) == there.mtime_ns


def same_meta(entry: Entry, there: Entry, *, owns: bool, times: Times = EVERY_TIME, flags: int = EVERY_FLAG) -> bool:
    """True when mode, mtime, extended attributes and (where the sink can set them) owners and inode flags are equal.
    `flags` has those that can be set. Two nodes are compared here: what the replica cannot hold is no difference."""
    if not same_time(entry, there, times) or entry.xattrs not in (there.xattrs, UNREADABLE):
        return False
    if not stat.S_ISLNK(entry.mode) and entry.mode != there.mode:
        return False
    if not same_flags(entry.flags, there.flags, flags):
        return False
    return not owns or (entry.uid, entry.gid) == (there.uid, there.gid)


def is_guarded(directory: Entry) -> bool:
    """True for a directory of the replica in which only root and the user of this process can create names. So this
    software created every entry in it, whoever owns the entry."""
    return directory.uid in (0, os.geteuid()) and not directory.mode & 0o022


class Comparison:
    """One mirror's compare. Remembers hard links only, so memory grows with those alone.

    A file with several names is compared as its first listed name; the others must be links to it. Two listed files
    that are one inode on the replica are separated: the later one is sent again."""

    def __init__(self, *, owns: bool) -> None:
        self._owns = owns
        self._claimed: dict[tuple[int, int], Path] = {}
        self._resent: set[Path] = set()

    def judge(
        self,
        at: Path,
        listed: Listed,
        there: Entry | None,
        head: Entry | None = None,
        *,
        strict: bool = False,
        times: Times = EVERY_TIME,
        flags: int = EVERY_FLAG,
        guarded: bool = True,
        own: int | None = None,
    ) -> Verdict:
        """What the entry at `at` needs. `there` is the replica's entry, `head` the replica's entry at ``listed.link``,
        the first name of the same file; `times` and `flags` are those that the replica can hold there.
        `guarded`: no user of the backup node can have given the name. `own`: as in `Seen`."""
        entry, link = listed
        if link is not None:
            linked = head is not None and there is not None and (head.dev, head.ino) == (there.dev, there.ino)
            return Verdict.SAME if linked and (at[0], link) not in self._resent else Verdict.LINK
        verdict = self._judge_alone(entry, there, strict, times, flags, guarded, own)
        if there is not None and there.nlink > 1 and not stat.S_ISDIR(there.mode):
            verdict = self._judge_shared(at, entry, there, verdict)
        return verdict

    def _judge_alone(
        self, entry: Entry, there: Entry | None, strict: bool, times: Times, flags: int, guarded: bool, own: int | None
    ) -> Verdict:
        if there is None or stat.S_IFMT(entry.mode) != stat.S_IFMT(there.mode):
            return Verdict.WHOLE
        if stat.S_ISDIR(entry.mode):
            return Verdict.SAME
        owner = entry.uid if self._owns else own
        if not guarded and owner is not None and there.uid != owner:
            return Verdict.WHOLE  # perhaps created by a local user: it must not become the source's object
        meta = Verdict.SAME if same_meta(entry, there, owns=self._owns, times=times, flags=flags) else Verdict.META
        if stat.S_ISLNK(entry.mode):
            return meta if entry.target == there.target else Verdict.WHOLE
        if not stat.S_ISREG(entry.mode):
            return meta if entry.rdev == there.rdev else Verdict.WHOLE
        if there.size and not same_flags(entry.flags, there.flags, flags & NOCOW << 32):
            return Verdict.WHOLE  # this flag can only be set or cleared on an empty file
        same_size = entry.size == there.size
        if same_size and not strict and same_time(entry, there, times):
            return meta
        if max(entry.size, there.size) <= BLOCK_BYTES and not (strict and same_size):
            return Verdict.WHOLE
        if not guarded and self._is_strange(entry, there):
            return Verdict.WHOLE
        return Verdict.BLOCKS if same_size and meta is Verdict.SAME else _BLOCKS_META

    def _is_strange(self, entry: Entry, there: Entry) -> bool:
        """True when a local user may have put the replica's file there, or when more users may read it than the
        source's. New content must not be written into such a file, since those users may have it open."""
        owned = (entry.uid, entry.gid) == (there.uid, there.gid)
        if self._owns and (not owned or (there.xattrs and entry.xattrs != there.xattrs)):
            return True
        return bool(there.mode & ~entry.mode & 0o077)

    def _judge_shared(self, at: Path, entry: Entry, there: Entry, verdict: Verdict) -> Verdict:
        """The replica's object has several names: a change in place must not affect a name that is another object on
        the source."""
        owner = self._claimed.setdefault((there.dev, there.ino), at)
        if owner != at or (verdict & Verdict.BLOCKS and entry.nlink != there.nlink):
            verdict = Verdict.WHOLE
        if verdict & Verdict.WHOLE and entry.nlink > 1:
            self._resent.add(at)
        return verdict
