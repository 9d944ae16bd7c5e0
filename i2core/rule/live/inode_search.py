"""Finds files that changed under names that are unknown, or outside of the rule: then a capture may report only the
inode number."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial

from i2core.api import Place
from i2core.rule.live.directories import Guard
from i2core.rule.live.dirty import Mark
from i2core.rule.live.other_names import OtherNames
from i2core.rule.live.walks import Walks
from i2core.rule.source.source import Source

AT_ONCE = 64
"""At most so many files are searched by inode number at once; more of them are searched in steps, like a walk."""


class InodeSearch:
    """Finds the names of changed inodes, and has each checked."""

    def __init__(
        self, source: Source, names: OtherNames, walks: Walks, guarded: Guard, check_root: Callable[..., None]
    ) -> None:
        self._source = source
        self._names = names
        self._walks = walks
        self._guarded = guarded
        self._check_root = check_root

    def look_for(self, mark: Mark) -> None:
        """Searches the inodes of a mark."""
        if mark.tree:  # too many
            for root in range(len(self._source.trees)):
                self._check_root(Place(root, b""), tree=True)
        looks = self._look_for_each(tuple(mark.inodes), content=mark.content)
        if len(mark.inodes) > AT_ONCE:
            self._walks.add(looks)
        else:
            for _ in looks:
                pass

    def _look_for_each(self, inodes: tuple[int, ...], *, content: bool) -> Generator[None, None, None]:
        for inode in inodes:
            self._guarded(Place(0, b""), partial(self._names.look_for, content=content), inode)
            yield
