"""Orphans of a rule, as the latest compare has found them: browsed by directory, and removed.

A removal goes the way of every change: the run of the rule gets the places as unverified, finds that the source has
nothing there, and sends the removals. So the brake counts them, and a history keeps what they remove.
"""

from __future__ import annotations

import heapq
import stat
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import attrs
import trio

from i2core.api import Place, UsageError
from i2core.compare.reading import Ends
from i2core.compare.result import Kind, Result
from i2core.compare.second_look import examine
from i2core.config.words import bilingual
from i2core.rule.life.status import RuleStatus
from i2core.rule.mirror.orphans import OrphanFinder
from i2core.rule.source.source import Source
from i2core.wire.questions import EXAMINED_MOST, OrphanList
from i2core.wire.session import Session

_BEYOND = b"\xff" * 256
"""Greater than any name."""
AT_ONCE = 1000
"""Orphans that are removed at a time."""


class Row(NamedTuple):
    """One name of a directory that is browsed."""

    place: Place
    orphans: int
    """1: it is an orphan, or lies in one; more, or 1 of a directory that is none: so many are beneath it."""
    is_orphan: bool
    is_directory: bool
    size: int
    """Bytes on the replica; of a directory that is no orphan, of all orphans beneath it."""
    born_ns: int = 0
    """When it was made on the replica, in ns since 1970; 0: not known."""

    @property
    def cursor(self) -> bytes:
        """Where the next page goes on: a directory that is no orphan comes where the first orphan beneath it does."""
        name = self.place.path.rpartition(b"/")[2]
        return name if self.is_orphan else name + b"/"

    def as_json(self) -> dict[str, Any]:
        """For programs, without its path."""
        kind = {"orphan": self.is_orphan, "directory": self.is_directory, "orphans": self.orphans}
        return kind | {"size": self.size, "born_ns": self.born_ns or None}


def browse(result: Result, directory: Place, *, after: bytes = b"", most: int = 1000) -> list[Row]:
    """Up to `most` names of a directory that are orphans, or have some beneath, from the one after `after` on, a
    `Row.cursor`. Blocks."""
    rows: list[Row] = []
    prefix = directory.path + b"/" if directory.path else b""
    cursor = prefix + after if after else b""
    if after.endswith(b"/"):
        cursor += _BEYOND
    while len(rows) < most:
        found = result.beneath(Kind.EXTRA, directory, after=cursor, most=1)
        if not found:
            break
        ((_, item),) = found
        name = item.place.path[len(prefix) :].partition(b"/")[0]
        place = directory.child(name)
        if place == item.place:
            is_directory = stat.S_ISDIR(item.mode)
            rows.append(Row(place, 1, True, is_directory, item.size_there, item.born_ns))
            cursor = place.path
            continue
        count, size = result.summed(Kind.EXTRA, place)
        rows.append(Row(place, count, False, True, size))
        cursor = place.path + b"/" + _BEYOND
    return rows


def orphan_above(result: Result, place: Place) -> Place | None:
    """The orphan that the place is, or lies in; None: it is none. Blocks."""
    while place.path:
        if result.at(Kind.EXTRA, place) is not None:
            return place
        place = place.above
    return None


async def inside(ends: Ends, directory: Place, *, after: bytes = b"", most: int = 1000) -> list[Row]:
    """As `browse`, for a directory that is an orphan or lies in one: the backup node is asked.

    Raises:
        LinkError: the link broke.
    """
    async with ends.source(RuleStatus(name=ends.work.rule.name)) as source, ends.session() as session:
        smallest: list[bytes] = []
        async for names in OrphanFinder(source, session).pages(directory):
            smallest = heapq.nsmallest(most, [*smallest, *(name for name in names if name > after)])
        rows: list[Row] = []
        for first in range(0, len(smallest), EXAMINED_MOST):
            names = smallest[first : first + EXAMINED_MOST]
            for name, there in zip(names, await examine(session, directory, names), strict=True):
                if there is not None:
                    is_directory = stat.S_ISDIR(there.mode)
                    rows.append(Row(directory.child(name), 1, True, is_directory, there.size, there.born_ns))
        return rows


def chosen(result: Result, places: Iterable[Place]) -> list[tuple[int, Place]]:
    """The orphans at these places and beneath them, with their numbers. Blocks.

    Raises:
        UsageError: there is none at a place, or it lies in one.
    """
    found: dict[int, Place] = {}
    for place in places:
        above = orphan_above(result, place)
        if above not in (None, place):
            raise UsageError(
                bilingual("it lies in a directory that is an orphan itself", "它位于一个孤儿目录之内"),
                obj=str(place.path, errors="backslashreplace"),
                next_step=bilingual("remove that directory as a whole", "请整体删除该目录"),
            )
        here = result.at(Kind.EXTRA, place)
        some = [here] if here is not None else result.beneath(Kind.EXTRA, place, most=1 << 62)
        if not some:
            raise UsageError(
                bilingual("no orphan is known there", "该处没有已知的孤儿文件"),
                obj=str(place.path, errors="backslashreplace"),
                next_step=bilingual("see i2 orphans list, also with --refresh", "参见 i2 orphans list，可加 --refresh"),
            )
        found.update((number, item.place) for number, item in some)
    return list(found.items())


@attrs.define
class Removed:
    """What became of orphans that were to be removed."""

    numbers: list[int] = attrs.field(factory=list)
    """Those that are gone."""
    left: dict[Place, str] = attrs.field(factory=dict)
    """Those that are still there, each with the reason."""


def not_replicating(rule: str) -> UsageError:
    """The error of a rule that can remove nothing now."""
    return UsageError(
        bilingual("only a rule that replicates can remove orphans", "只有正在复制的规则才能删除孤儿文件"),
        obj=rule,
        next_step=bilingual(f"start it: i2 rule start {rule}", f"请先启动：i2 rule start {rule}"),
    )


class Removal:
    """Removes orphans through the run of the rule."""

    def __init__(self, ends: Ends, orphans: Sequence[tuple[int, Place]]) -> None:
        self._ends = ends
        self._orphans = orphans
        self.outcome = Removed()

    def progress(self) -> dict[str, Any]:
        """How far it is, for programs."""
        return {"removed": len(self.outcome.numbers), "left": len(self.outcome.left), "all": len(self._orphans)}

    async def run(self) -> Removed:
        """Removes all of them; returns when that is applied on the replica.

        Raises:
            UsageError: the rule does not replicate, so nobody can remove them.
            LinkError: the link broke.
        """
        rule, view = self._ends.work.rule, self._ends.work.view
        for first in range(0, len(self._orphans), AT_ONCE):
            some = self._orphans[first : first + AT_ONCE]
            async with self._ends.source(RuleStatus(name=rule.name)) as source:
                places = await self._removable(source, [place for _, place in some])
                if places and not view.differ(places):
                    raise not_replicating(rule.name)
                await view.until_repaired()
                async with self._ends.session() as session:
                    await self._look(session, some)
        return self.outcome

    async def _removable(self, source: Source, places: Sequence[Place]) -> list[Place]:
        """Without directories beneath which the rule excludes names: these are not the rule's to remove."""
        if source.filter.empty:
            return list(places)
        found = []
        async with self._ends.session() as session:
            finder = OrphanFinder(source, session)
            for place in places:
                name = place.path.rpartition(b"/")[2]
                alone = [OrphanList(place.root, place.above.path, [name])]
                if await finder.separate(alone[0]) == alone:
                    found.append(place)
                else:
                    self.outcome.left[place] = "names beneath it are excluded by the rule"
        return found

    async def _look(self, session: Session, some: Sequence[tuple[int, Place]]) -> None:
        for number, place in some:
            (there,) = await examine(session, place.above, [place.path.rpartition(b"/")[2]])
            if there is None:
                self.outcome.numbers.append(number)
            else:
                self.outcome.left.setdefault(place, "it is still there; the log of the rule has the reason")
            await trio.lowlevel.checkpoint()
