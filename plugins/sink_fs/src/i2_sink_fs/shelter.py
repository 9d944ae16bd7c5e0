"""Whether a local user can put another directory in the place of one that a path leads to."""

from __future__ import annotations

import os
from collections.abc import Callable

from i2_sink_fs.open_directories import Directory, OpenDirectories


class Shelter:
    """What was found out in one call of the sink."""

    def __init__(self, opened: OpenDirectories, top: Callable[[int], Directory]) -> None:
        """`top`: the open directory of a root."""
        self._opened, self._top = opened, top
        self._known: dict[tuple[int, bytes], bool] = {}

    def covers(self, root: int, path: bytes) -> bool:
        """True when each directory above `path` is guarded. Asked from the root downwards: what lies beneath a
        directory of another user may be exchanged at any moment, and is not asked."""
        if not path:
            return True
        known = self._known.get((root, path))
        if known is None:
            above = path.rpartition(b"/")[0]
            higher = self._known.get((root, above)) if above else True
            open_above = self._opened.get(root, above)
            # From what is known above, so that a chain of directories costs as much as its levels.
            near = higher is not None and open_above is not None
            known = bool(higher and open_above and open_above.guarded) if near else self._look(root, path)
            self._known[root, path] = known
        return known

    def _look(self, root: int, path: bytes) -> bool:
        top, end = self._top(root), path.find(b"/")
        guarded = top.guarded
        while guarded and end >= 0:
            try:
                guarded = self._opened.is_guarded(os.stat(path[:end], dir_fd=top.fd, follow_symlinks=False))
            except OSError:  # moved meanwhile, or the path is too long for one call
                guarded = False
            end = path.find(b"/", end + 1)
        return guarded

    def forget(self) -> None:
        """A name no longer means the same directory."""
        self._known.clear()
