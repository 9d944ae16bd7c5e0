"""A whole tree as a sink reports it, in one value: two trees are the same if their pictures are equal."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from i2core.api import Meta, Place, Sink, Xattrs
from i2core.api.drivers import Ask

Picture = dict[bytes, tuple[object, ...]]
"""A tree as a sink reports it: for each path, everything that must be equal after the same records."""

TIME_NS = 1_700_000_000_123_456_789
"""A time that only a file system with nanosecond times can store."""
_HASH_BLOCKS = 64


def meta_of(mode: int, mtime_ns: int = TIME_NS, xattrs: Xattrs | None = ()) -> Meta:
    """Metadata of an object that belongs to this process's user. `mode` with the type."""
    return Meta(mode, os.geteuid(), os.getegid(), mtime_ns, xattrs)


async def picture(sink: Sink, root: int = 0, *, times: bool = True, owners: bool = True) -> Picture:
    """The whole tree as the sink reports it: type and mode, owner, size, symlink text, device, attributes, content
    hashes, which names are one file; mtimes of non-directories unless `times` is False; owners if the sink sets them,
    unless `owners` is False."""
    seen: Picture = {}
    groups: dict[tuple[int, int], list[bytes]] = {}
    waiting = [b""]
    while waiting:
        above = waiting.pop()
        names = await names_in(sink, Place(root, above))
        (seen_here,) = await sink.look([Ask(Place(root, above), names)])
        for name, entry in zip(names, seen_here.entries, strict=True):
            assert entry is not None, f"{name!r} is listed in {above!r}, but is missing when asked for"
            path = above + b"/" + name if above else name
            is_dir, is_file = stat.S_ISDIR(entry.mode), stat.S_ISREG(entry.mode)
            hashes = b""
            if is_dir:
                waiting.append(path)
            else:
                groups.setdefault((entry.dev, entry.ino), []).append(path)
            if is_file:
                while more := await sink.hashes(Place(root, path), len(hashes) // 16, _HASH_BLOCKS):
                    hashes += more
            owner = (entry.uid, entry.gid) if sink.owns and owners else ()
            size = entry.size if is_file else 0
            time = entry.mtime_ns if times and not is_dir else 0
            seen[path] = (entry.mode, *owner, size, time, entry.target, entry.rdev, entry.xattrs, hashes)
    for paths in groups.values():
        for path in paths:
            seen[path] += (tuple(sorted(paths)),)
    return seen


async def names_in(sink: Sink, place: Place) -> Sequence[bytes]:
    """All names in the directory at `place`."""
    pages = await sink.names(place)
    try:
        names: list[bytes] = []
        while page := await pages.next():
            names += page
        return names
    finally:
        pages.close()
