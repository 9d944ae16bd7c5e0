"""Excluded directories and name patterns, compiled so that one check costs about a microsecond.

The filter is called for every entry of a mirror and every change of a live rule. Excluded directories are a sorted
list, searched by one bisection; all patterns like ``*.doc`` are one `str.endswith`, all others one regular expression.
"""

from __future__ import annotations

import fnmatch
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable

from i2_filter_glob.config import GlobConfig
from i2core.api import Filter, Place

_MAGIC = frozenset("*?[")


class GlobFilter(Filter):
    """Wants objects outside of all excluded paths; objects other than directories must also pass the name patterns."""

    def __init__(self, config: GlobConfig, roots: tuple[bytes, ...]) -> None:
        self._excluded = [_beneath(root, config.exclude) for root in roots]
        self._included_name = _name_matcher(config.include_types) if config.include_types else None
        self._excluded_name = _name_matcher(config.exclude_types) if config.exclude_types else None
        self._by_name = self._included_name is not None or self._excluded_name is not None

    def wants(self, place: Place, is_dir: bool) -> bool:
        root, path = place
        excluded = self._excluded[root]
        if excluded:
            asked = path + b"/"
            at = bisect_right(excluded, asked)
            if at and asked.startswith(excluded[at - 1]):
                return False
        if is_dir or not self._by_name:
            return True
        # Text, so that ? is one character of UTF-8; an invalid byte becomes one lone surrogate.
        name = path[path.rfind(b"/") + 1 :].decode("utf-8", "surrogateescape")
        if self._included_name is not None and not self._included_name(name):
            return False
        return self._excluded_name is None or not self._excluded_name(name)


def _beneath(root: bytes, excluded: Iterable[str]) -> list[bytes]:
    """The excluded paths that concern this root: sorted, each relative to the root with a slash at its end, none
    beneath another; ``[b""]`` when the whole root is excluded.

    In sorted order, nothing in the list can be between an excluded path and a path beneath it: they have the same
    prefix, and the list has no path beneath another. So one bisection finds the only candidate."""
    top = _with_slash(root)
    kept: list[bytes] = []
    for path in sorted(_with_slash(path.encode("utf-8", "surrogateescape")) for path in excluded):
        if top.startswith(path):
            return [b""]
        if path.startswith(top) and not (kept and path[len(top) :].startswith(kept[-1])):
            kept.append(path[len(top) :])
    return kept


def _with_slash(path: bytes) -> bytes:
    """The path with single slashes, and one at its end."""
    return re.sub(b"/+", b"/", path + b"/")


def _name_matcher(patterns: Iterable[str]) -> Callable[[str], object]:
    """A function that returns a true value for a name that matches one of the patterns."""
    patterns = list(patterns)
    suffixes = tuple(p[1:] for p in patterns if p[0] == "*" and not _MAGIC & set(p[1:]))
    others = [p for p in patterns if not (p[0] == "*" and not _MAGIC & set(p[1:]))]
    if not others:
        return lambda name: name.endswith(suffixes)
    match = re.compile("|".join(fnmatch.translate(p) for p in others)).match
    if not suffixes:
        return match
    return lambda name: name.endswith(suffixes) or match(name)
