"""One compare, from beginning to end: the first look, second looks until all is certain, and the mending."""

from __future__ import annotations

import enum
import stat
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import attrs
import trio

from i2core.api import LinkError, Place, UsageError
from i2core.compare.first_look import Equal, FirstLook, not_compared
from i2core.compare.reading import Ends
from i2core.compare.result import Item, Kind, Result, Totals
from i2core.compare.second_look import MOST, Judge, SecondLook
from i2core.compare.suspects import Suspect, Suspects, state_of
from i2core.config.words import bilingual
from i2core.rule.life.status import RuleStatus
from i2core.rule.source.source import Source
from i2core.rule.survey.links import LinkTable
from i2core.rule.survey.lister import Scope, is_within

LOOKS_AFTER_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Waits before the second looks. What is not certain after the last one is unsettled."""
CARRIED_S = 10.0
"""How long a second look waits for earlier changes to reach the replica."""
ATTEMPTS = 5
"""Sessions in a row that may break without any result."""
RETRY_S = 2.0
ITEMS_MOST = 1_000_000
"""Objects that a result lists; further ones are only counted."""
_MARKED_MOST = 10_000
"""More places than these are mended by comparing whole roots."""


class Phase(enum.Enum):
    """What a compare is doing."""

    WAITING = "waiting"
    """The rule mirrors."""
    COMPARING = "comparing"
    SETTLING = "settling"
    """What seems to differ is looked at again."""
    MENDING = "mending"


@attrs.frozen(kw_only=True)
class Order:
    """What is compared, and how."""

    strict: bool = False
    """Contents are compared also where size and time are equal."""
    mend: bool = False
    """What is missing or different is sent."""
    places: Sequence[Place] = ()
    """Only these, and what is beneath them; empty: everything, or `scopes`."""
    scopes: Sequence[Scope] = ()
    """Only these directories."""


class Comparing:
    """Compares, and fills `result`; it has not begun before `run`."""

    def __init__(
        self,
        ends: Ends,
        order: Order,
        result: Result,
        *,
        equal: Equal = lambda place, files: None,
        judge: Judge = lambda found: True,
        pace: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        """`equal`, `judge`, `pace`: as in the looks."""
        self._ends = ends
        self._view = ends.work.view
        self._order = order
        self._result = result
        self._equal = equal
        self._judge = judge
        self._pace = pace
        self._status = RuleStatus(name=ends.work.rule.name)
        self.totals = Totals()
        self.phase = Phase.COMPARING
        self._looked_ns = 0
        """When the last look began (`time.monotonic_ns`)."""

    def progress(self) -> dict[str, Any]:
        """How far it is, for programs."""
        read = {"listed_files": self._status.listed_files, "read_bytes": self._status.checked_bytes}
        return {"phase": self.phase.value} | read | self.totals.as_json()

    async def run(self) -> Totals:
        """Compares everything that was asked for.

        Raises:
            UsageError: it is to mend, and the rule does not run; or it was never mirrored.
            StopRule: a source is gone, or the backup node refused.
            LinkError: the link broke several times in a row.
        """
        if self._order.mend and not self._view.runs:
            raise UsageError(
                bilingual("only a running rule can mend what differs", "只有运行中的规则才能修复差异"),
                obj=self._status.name,
                next_step=bilingual(
                    f"start it: i2 rule start {self._status.name}", f"请先启动：i2 rule start {self._status.name}"
                ),
            )
        async with self._ends.source(self._status) as source:
            suspects = await self._first(source)
            try:
                await self._settle(source, suspects)
            finally:
                suspects.close()
            if self._order.mend:
                await self._mend(source)
        return self.totals

    # ------------------------------------------------------------------------------------------ looks

    async def _first(self, source: Source) -> Suspects:
        """Looks at everything, again from the beginning if the link breaks."""
        failed = 0
        while True:
            await self._not_mirroring()
            suspects, self.totals = Suspects(), Totals()
            self._status.listed_files = self._status.checked_bytes = 0
            self._result.begin()
            self._looked_ns = time.monotonic_ns()
            try:
                async with self._ends.session() as session:
                    scopes = await trio.to_thread.run_sync(self._scopes, source, suspects)
                    look = FirstLook(
                        source,
                        session,
                        suspects,
                        self.totals,
                        strict=self._order.strict,
                        equal=self._equal,
                        pace=self._pace,
                    )
                    missed = not_compared(await look.run(scopes))
            except LinkError:
                suspects.close()
                failed += 1
                if failed == ATTEMPTS:
                    raise
                await trio.sleep(RETRY_S)
                continue
            except BaseException:
                suspects.close()
                raise
            self._add([_missed(place, cause) for place, cause in missed.items()])
            return suspects

    async def _settle(self, source: Source, suspects: Suspects) -> None:
        """Looks at the suspects until it is certain which of them differ."""
        self.phase, left = Phase.SETTLING, suspects
        for wait_s in LOOKS_AFTER_S:
            if not await trio.to_thread.run_sync(len, left):
                break
            await trio.sleep(wait_s)
            left = await self._look(source, left)
        for place, names in _rest(left):
            self._add([Item(Kind.UNSETTLED, place.child(each.name) if each.name else place) for each in names])
        if left is not suspects:
            left.close()

    async def _look(self, source: Source, suspects: Suspects) -> Suspects:
        """One look; returns what is to be looked at again."""
        again, failed = Suspects(), 0
        while True:
            certain = await self._carried()
            self._looked_ns = time.monotonic_ns()
            taken: tuple[Place, list[Suspect]] | None = None
            try:
                async with self._ends.session() as session:
                    look = SecondLook(source, session, again, certain=certain, judge=self._judge)
                    while (taken := await trio.to_thread.run_sync(suspects.take, MOST)) is not None:
                        self._add(await look.directory(*taken))
                        failed = 0
                return again
            except LinkError:
                if taken is not None:
                    await trio.to_thread.run_sync(suspects.add, *taken)
                failed += 1
                if failed == ATTEMPTS:
                    raise
                await trio.sleep(RETRY_S)

    async def _carried(self) -> bool:
        """Waits until what had changed before the last look has reached the replica; False: it has not."""
        await self._not_mirroring()
        return await self._view.until_carried(self._looked_ns, CARRIED_S)

    async def _not_mirroring(self) -> None:
        """Waits while the rule mirrors: that compares everything itself."""
        if self._view.mirrors:
            before, self.phase = self.phase, Phase.WAITING
            await self._view.until_mirrored()
            self.phase = before

    # ------------------------------------------------------------------------------------------ scopes

    def _scopes(self, source: Source, suspects: Suspects) -> list[Scope]:
        """The directories to be listed; single files become suspects."""
        if self._order.scopes:
            return list(self._order.scopes)
        if not self._order.places:
            return [Scope(Place(root, b"")) for root in range(len(source.trees))]
        chosen, scopes, single = set(self._order.places), list[Scope](), list[Place]()
        for place in sorted(chosen):
            if place.path and is_within(place.above, chosen):
                continue
            entry = source.trees[place.root].lookup(place.path)
            if entry is not None and stat.S_ISDIR(entry.mode):
                scopes.append(Scope(place))
                continue
            single.append(place)
            if entry is not None:
                self.totals.objects += 1
                self.totals.files += 1
                self.totals.bytes += entry.size if stat.S_ISREG(entry.mode) else 0
        _suspect(source, [*single, *(scope.place for scope in scopes if scope.place.path)], suspects)
        return scopes

    def _add(self, items: Sequence[Item]) -> None:
        room = ITEMS_MOST - sum(self.totals.found.values())
        for item in items:
            self.totals.found[item.kind] += 1
        if items and room > 0:
            self._result.add(items[:room])

    # ------------------------------------------------------------------------------------------ mending

    async def _mend(self, source: Source) -> None:
        """Has the run of the rule repair what is missing or different, and looks whether it is equal then."""
        self.phase = Phase.MENDING
        marked = self._marked()
        if not marked or not self._view.differ(marked):
            return
        self._looked_ns = time.monotonic_ns()
        await self._view.until_repaired()
        await self._carried()
        number = 0
        while page := self._result.page((Kind.MISSING, Kind.DIFFERENT), after=number, most=MOST):
            number = page[-1][0]
            equal = await self._equal_now(source, page)
            self._result.mended(equal)
            self.totals.mended += len(equal)

    def _marked(self) -> list[Place]:
        """The places to be repaired: of a directory that is missing as a whole, only the directory."""
        missing: set[Place] = set()
        marked: list[Place] = []
        number = 0
        while page := self._result.page((Kind.MISSING, Kind.DIFFERENT), after=number):
            number = page[-1][0]
            for _, item in page:
                if item.place.path and is_within(item.place.above, missing):
                    continue
                if item.kind is Kind.MISSING and stat.S_ISDIR(item.mode):
                    missing.add(item.place)
                marked.append(item.place)
                if len(marked) > _MARKED_MOST:
                    return sorted({Place(place.root, b"") for place in marked})
        return [place for place in marked if place in missing or not is_within(place, missing - {place})]

    async def _equal_now(self, source: Source, page: Sequence[tuple[int, Item]]) -> list[int]:
        """The numbers of those that are equal now."""
        suspects = Suspects()
        try:
            await trio.to_thread.run_sync(_suspect, source, [item.place for _, item in page], suspects)
            again = Suspects()
            left: set[Place] = set()
            async with self._ends.session() as session:
                look = SecondLook(source, session, again, certain=True)
                while (taken := await trio.to_thread.run_sync(suspects.take, MOST)) is not None:
                    left.update(item.place for item in await look.directory(*taken))
            for place, names in _rest(again):
                left.update(place.child(each.name) if each.name else place for each in names)
            again.close()
        finally:
            suspects.close()
        return [number for number, item in page if item.place not in left]


def _suspect(source: Source, places: Sequence[Place], suspects: Suspects) -> None:
    """Makes suspects of these places; for worker threads."""
    links = LinkTable()
    for place in places:
        entry = source.trees[place.root].lookup(place.path)
        if entry is not None and (stat.S_ISDIR(entry.mode) or not place.path):
            suspects.add(place, [Suspect(b"", state_of(entry))])
            continue
        link = None if entry is None or entry.nlink < 2 else links.first(place.root, entry, place.path)
        suspects.add(place.above, [Suspect(place.path.rpartition(b"/")[2], state_of(entry), link)])
    links.close()


def _rest(suspects: Suspects) -> Iterator[tuple[Place, list[Suspect]]]:
    while (taken := suspects.take(MOST)) is not None:
        yield taken


def _missed(place: Place, cause: str) -> Item:
    return Item(Kind.UNREADABLE if cause else Kind.UNSETTLED, place, cause=cause)
