"""The mass-delete brake: decides from counts of files whether removals may be applied. No input or output here.

The brake measures a net loss: files removed minus files added, compared with the number of files when the removal
began. There are two spans:

- a **removal** lasts until nothing was removed for `window_s` seconds. It may not take nearly all files of a root, even
if these are fewer than `least`: a disk that is not mounted looks like an emptied root.
- a **day** may not take `share` of the files, if these are `least` or more, however slowly they are removed.

Files are counted on the replica; claims of the work node about its removals play no part. Counting walks the replica,
so it is done as seldom as the decision allows (`RootBrake.wanted`). In between the allowed removals are added up, and
added files are not known. So the real loss is at most the noted one, and another count finds it.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

import attrs

from i2core.api import Kind, Record
from i2core.wire.messages import BrakeLimits

DAY_S = 86400.0
FEW = 100
"""From this number of files on, a fifth must stay in one removal. Fewer files may all be removed as long as the root
keeps an entry: a spool is often empty, and its directories stay."""
SPARED = 5
PART_RECORDS = 1000
_FILES = frozenset({Kind.CREATE, Kind.PUBLISH, Kind.SYMLINK, Kind.MKNOD, Kind.LINK})

Path = tuple[int, bytes]
"""Root index and path."""


def stricter(one: BrakeLimits, other: BrakeLimits | None) -> BrakeLimits:
    """Limits that hold removals which either of both would hold."""
    if other is None or not other.on:
        return one
    if not one.on:
        return other
    return BrakeLimits(
        share=min(one.share, other.share),
        window_s=max(one.window_s, other.window_s),
        least=min(one.least, other.least),
    )


# ------------------------------------------------------------------------------------------------ how much goes


@attrs.frozen
class Loss:
    """What a batch removes from a replica: everything at `places`, minus `back` files of each root that it creates
    again at the same place."""

    places: tuple[Path, ...] = ()
    back: dict[int, int] = attrs.field(factory=dict)


def pieces(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """The records in pieces short enough for `loss_of`, which follows each name through all earlier renames."""
    kinds = {record.kind for record in records}
    size = PART_RECORDS if Kind.RENAME in kinds and Kind.REMOVE in kinds else max(1, len(records))
    for start in range(0, len(records), size):
        yield records[start : start + size]


def loss_of(records: Sequence[Record]) -> Loss:
    """The loss caused by records. Each file is counted once: places beneath a removed directory are not listed again,
    and an object that is renamed before it is removed is listed at its present place."""
    gone: dict[Path, set[Path]] = {}
    """By removed name: where its objects are now."""
    moved: list[_Moved] = []
    back: dict[int, int] = {}
    for record in records:
        path = (record.root, record.path)
        if record.kind is Kind.REMOVE and not record.staged:
            # Objects that an earlier record moved into it are removed with it.
            inside = {each.origin for each in moved if _beneath(each.now, path)}
            gone[path] = {_origin(path, moved), *inside}
        elif record.kind is Kind.RENAME:
            new = (record.root, record.other)
            origin = _origin(path, moved)
            for each in moved:
                each.now = _renamed(each.now, path, new)
            moved.append(_Moved(path, new, origin, new))
        elif record.kind in _FILES and gone and _covered(path, gone):
            back[record.root] = back.get(record.root, 0) + 1
    places = set[Path]().union(*gone.values())
    return Loss(tuple(sorted(place for place in places if not _covered(_above(place), places))), back)


@attrs.define
class _Moved:
    """A rename: what it did, where the object was before the batch, and where it is by now."""

    old: Path
    new: Path
    origin: Path
    now: Path


def _beneath(path: Path, above: Path) -> bool:
    if path[0] != above[0]:
        return False
    return not above[1] or path[1] == above[1] or path[1].startswith(above[1] + b"/")


def _renamed(path: Path, old: Path, new: Path) -> Path:
    return (path[0], new[1] + path[1][len(old[1]) :]) if _beneath(path, old) else path


def _origin(path: Path, moved: Sequence[_Moved]) -> Path:
    for each in reversed(moved):
        path = _renamed(path, each.new, each.old)
    return path


def _above(path: Path) -> Path | None:
    return (path[0], path[1].rpartition(b"/")[0]) if path[1] else None


def _covered(path: Path | None, names: Container[Path]) -> bool:
    """True when `names` has the path, or a directory above it."""
    while path is not None:
        if path in names:
            return True
        path = _above(path)
    return False


# ------------------------------------------------------------------------------------------------ how much may go


@attrs.define
class _Span:
    """Files of a root over some time: the maximum was at least `base`, and at most `gone` of them are gone."""

    began: float
    base: int = 0
    gone: int = 0
    counted: bool = False
    whole: bool = False
    """All files were counted: `base` is exact."""

    def count(self, left: int, *, whole: bool) -> None:
        """`left` files are there now; not `whole`: or more."""
        if whole and self.whole:
            self.base = max(self.base, left)
            self.gone = self.base - left
        else:
            self.base = max(self.base, left + self.gone)
        self.counted, self.whole = True, whole


@attrs.frozen
class Verdict:
    """Why removals are held."""

    gone: int
    base: int
    few: bool = False
    """There were so few files that all may go, unless the root would have no entry left."""


class RootBrake:
    """The brake of one root. Times are seconds of any monotonic clock."""

    def __init__(self, limits: BrakeLimits) -> None:
        self.limits = limits
        self._removal = _Span(0.0)
        self._day = _Span(0.0)
        self._last = 0.0

    def wanted(self, going: int, now: float) -> int:
        """How many files must be counted before `going` more may go; 0: they are harmless as it is."""
        if not self.limits.on or not going:
            return 0
        if now - self._last > self.limits.window_s:
            self._removal = _Span(now)
        if now - self._day.began > max(DAY_S, self.limits.window_s):
            self._day = _Span(now)
        most = 0
        for span, first, allowed in ((self._removal, FEW, self._few), (self._day, self._enough(), self._share)):
            gone = span.gone + going
            if not span.counted:
                most = max(most, first, self._twice(gone))
            elif gone > allowed(span.base):
                most = max(most, self._twice(gone))
        return most

    def count(self, left: int, *, whole: bool) -> None:
        """`left` files are there now; not `whole`: so many or more."""
        self._removal.count(left, whole=whole)
        self._day.count(left, whole=whole)

    def judge(self, going: int) -> Verdict | None:
        """Why `going` more files may not go; None when they may."""
        if not self.limits.on or not going:
            return None
        for span, allowed in ((self._day, self._share), (self._removal, self._few)):
            gone = span.gone + going
            if gone > allowed(span.base):
                few = span is self._removal and span.base < FEW
                return Verdict(min(gone, span.base), span.base, few)
        return None

    def note(self, going: int, now: float) -> None:
        """Notes that so many files are removed with permission."""
        if going > 0:
            self._removal.gone += going
            self._day.gone += going
            self._last = now

    def release(self, now: float) -> None:
        """An administrator confirmed the held removal. Later removals are measured against the files that are left."""
        self._removal, self._day, self._last = _Span(now), _Span(now), now

    def _few(self, base: int) -> int:
        """How many of `base` files may go in one removal; a single file may come and go."""
        spared = base // SPARED if base >= FEW else 1
        return max(1, base - spared, int(self.limits.share * base))

    def _share(self, base: int) -> int:
        """How many of `base` files may go in a day."""
        return max(self.limits.least - 1, int(self.limits.share * base))

    def _enough(self) -> int:
        return int(2 * self.limits.least / self.limits.share) + 1

    def _twice(self, gone: int) -> int:
        """Twice the number of files that makes `gone` harmless, so that counting costs no more than removing."""
        return int(2 * gone / min(self.limits.share, 1 - 1 / SPARED)) + FEW


class Brake:
    """The brakes of a replica's roots, by path: they are kept when the order of a rule's roots changes."""

    MOST = 4000
    """At most so many roots are remembered; then the oldest is forgotten."""

    def __init__(self) -> None:
        self._limits = BrakeLimits(share=0.5, window_s=60, least=1000)
        self._roots: dict[str, RootBrake] = {}

    @property
    def limits(self) -> BrakeLimits:
        """In force for all roots."""
        return self._limits

    @limits.setter
    def limits(self, limits: BrakeLimits) -> None:
        self._limits = limits
        for brake in self._roots.values():
            brake.limits = limits

    def of(self, root: str) -> RootBrake:
        """The brake of that root."""
        brake = self._roots.get(root)
        if brake is None:
            if len(self._roots) >= self.MOST:
                del self._roots[next(iter(self._roots))]
            brake = self._roots[root] = RootBrake(self._limits)
        return brake

    def release(self, now: float) -> None:
        """See `RootBrake.release`."""
        for brake in self._roots.values():
            brake.release(now)
