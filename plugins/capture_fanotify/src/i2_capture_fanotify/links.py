"""Tracks files with several names: an event with a name outside the roots may be about a file that has a name within.

Most events outside are about files with one name, and must cost nearly nothing. So whether a file has other names is
checked once, and cached until the kernel reports a change of its link count. After such a change, a link count of 1 is
not enough: events have the name under which the file was opened, and that name may be removed while another is left
(``ln log log.1; rm log``, while the writer continues).
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

REMEMBERED = 16_384
"""Files in the cache, about 150 bytes each; others are checked again."""
APART_S = 2.0
"""Least time between two reports of one file: each report makes every rule on its file system search for the file."""


class _Recent:
    """A set that drops the least recently used."""

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self.young: set[bytes] = set()
        """The recently used ones: always the same set object, so that it can be passed on."""
        self._old: set[bytes] = set()

    def __contains__(self, key: bytes) -> bool:
        if key in self.young:
            return True
        if key not in self._old:
            return False
        self.add(key)
        return True

    def add(self, key: bytes) -> None:
        if len(self.young) >= self._half:
            self._old = self.young.copy()
            self.young.clear()
        self.young.add(key)

    def discard(self, key: bytes) -> None:
        self.young.discard(key)
        self._old.discard(key)

    def clear(self) -> None:
        self.young.clear()
        self._old.clear()


class Links:
    """The link state of files by key, and the earliest time of the next report of each."""

    def __init__(self) -> None:
        self._recounted = _Recent(REMEMBERED)
        self._single = _Recent(REMEMBERED)
        self._several = _Recent(REMEMBERED)
        self._due: dict[bytes, tuple[float, int]] = {}
        """Files that were reported recently, oldest first: the time of their next report, and the changes since (event
        bits)."""

    @property
    def single(self) -> AbstractSet[bytes]:
        """Recently seen files with one name. The set is updated in place."""
        return self._single.young

    def clear(self) -> None:
        """Clears the cache: events were lost."""
        for known in (self._recounted, self._single, self._several):
            known.clear()
        self._due.clear()

    def recounted(self, key: bytes) -> None:
        """Drops the cached state of a file whose link count changed."""
        self._recounted.add(key)
        self._single.discard(key)
        self._several.discard(key)

    def has_several(self, key: bytes) -> bool | None:
        """Whether the file may have other names than the one of the event; None: not known."""
        if key in self._single:
            return False
        return True if key in self._several else None

    def was_recounted(self, key: bytes) -> bool:
        """True if its names changed since the capture started."""
        return key in self._recounted

    def came(self, key: bytes) -> bool:
        """Records a new file; False if it may be another name of an existing file."""
        if key in self._recounted or key in self._several:
            return False
        self._single.add(key)
        return True

    def note(self, key: bytes, *, several: bool) -> bool:
        """Stores `several`, and returns it."""
        (self._several if several else self._single).add(key)
        return several

    def may_report(self, key: bytes, mask: int, now_s: float) -> bool:
        """True if the event may be reported at once; else `due` returns it later."""
        waiting = self._due.get(key)
        self._due[key] = (now_s + APART_S, 0) if waiting is None else (waiting[0], waiting[1] | mask)
        return waiting is None

    @property
    def due_at(self) -> float | None:
        """The time of the next entry for `due`; None if there is none."""
        return next(iter(self._due.values()))[0] if self._due else None

    def due(self, now_s: float) -> list[tuple[bytes, int]]:
        """Files with changes since they were reported, with these changes."""
        found = []
        while self._due:
            key, (at, mask) = next(iter(self._due.items()))
            if at > now_s:
                break
            del self._due[key]
            if mask:
                self._due[key] = (now_s + APART_S, 0)
                found.append((key, mask))
        return found
