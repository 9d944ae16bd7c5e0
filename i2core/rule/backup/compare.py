"""The backup node's side of a mirror: what an entry of the source's listing needs, given what the replica has. Pure."""

from __future__ import annotations

import stat

from i2core.api import BLOCK_BYTES, Entry
from i2core.wire.listing import Listed, Verdict

Path = tuple[int, bytes]
"""Root index and path of an object on the replica."""


def same_meta(entry: Entry, there: Entry, *, owns: bool) -> bool:
    """True when mode, mtime, extended attributes and (where the sink can set them) owners are equal."""
    if entry.mtime_ns != there.mtime_ns or entry.xattrs != there.xattrs:
        return False
    if not stat.S_ISLNK(entry.mode) and entry.mode != there.mode:
        return False
    return not owns or (entry.uid, entry.gid) == (there.uid, there.gid)


class Comparison:
    """One mirror's compare. Remembers hard links only, so memory grows with those alone.

    A file with several names is compared as its first listed name; the others must be links to it. Two listed files
    that are one inode on the replica are told apart: the later one is sent anew.
    """

    def __init__(self, *, owns: bool) -> None:
        self._owns = owns
        self._claimed: dict[tuple[int, int], Path] = {}
        self._renewed: set[Path] = set()

    def judge(
        self, at: Path, listed: Listed, there: Entry | None, head: Entry | None = None, *, strict: bool = False
    ) -> Verdict:
        """What the entry at `at` needs. `there` is the replica's entry, `head` the replica's entry at ``listed.link``,
        the first name of the same file."""
        entry, link = listed
        if link is not None:
            linked = head is not None and there is not None and (head.dev, head.ino) == (there.dev, there.ino)
            return Verdict.SAME if linked and (at[0], link) not in self._renewed else Verdict.LINK
        verdict = self._judge_alone(entry, there, strict)
        if there is not None and there.nlink > 1 and stat.S_ISREG(there.mode):
            verdict = self._judge_shared(at, entry, there, verdict)
        return verdict

    def _judge_alone(self, entry: Entry, there: Entry | None, strict: bool) -> Verdict:
        if there is None or stat.S_IFMT(entry.mode) != stat.S_IFMT(there.mode):
            return Verdict.WHOLE
        if stat.S_ISDIR(entry.mode):
            return Verdict.SAME
        meta = Verdict.SAME if same_meta(entry, there, owns=self._owns) else Verdict.META
        if stat.S_ISLNK(entry.mode):
            return meta if entry.target == there.target else Verdict.WHOLE
        if not stat.S_ISREG(entry.mode):
            return meta if entry.rdev == there.rdev else Verdict.WHOLE
        same_size = entry.size == there.size
        if same_size and entry.mtime_ns == there.mtime_ns and not strict:
            return meta
        if max(entry.size, there.size) <= BLOCK_BYTES and not (strict and same_size):
            return Verdict.WHOLE
        return Verdict.BLOCKS | (meta if same_size else Verdict.META)

    def _judge_shared(self, at: Path, entry: Entry, there: Entry, verdict: Verdict) -> Verdict:
        """The replica's file has several names: patching it in place must not reach a name that is another file."""
        owner = self._claimed.setdefault((there.dev, there.ino), at)
        if owner != at or (verdict & Verdict.BLOCKS and entry.nlink != there.nlink):
            verdict = Verdict.WHOLE
        if verdict & Verdict.WHOLE and entry.nlink > 1:
            self._renewed.add(at)
        return verdict
