"""After a plan was carried out, as a whole or in part: index and journal follow what stands on the replica."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import attrs

from i2core.api import Applied, Failure, Kind, Record
from i2core.api.present import STORE, Identity, Present
from i2core.history.index.index import Index
from i2core.history.model.rows import CatalogChange, Object
from i2core.history.plan.plan import Plan, Planner
from i2core.history.plan.step import Step
from i2core.history.read.places import ObjectLost, Places
from i2core.history.record.writing import FrameWriter, Written
from i2core.history.recovery.failed import correct_catalog

_STAGING = frozenset({Kind.STAGE, Kind.PUBLISH})


@attrs.define
class Carried:
    """How far a plan is carried out."""

    steps: int = 0
    """Records that the sink is done with, whether or not they failed."""
    failures: list[Failure] = attrs.field(factory=list)
    made: dict[int, Identity] = attrs.field(factory=dict)
    """Objects that were made, by the number in the history of the record that made them."""
    ended: bool = False
    """The plan ends here: the last of these records failed, or the next one is blocked."""
    in_doubt: bool = False
    """The last of these records may be carried out in part."""
    blocked: bool = False

    def add(self, later: Carried) -> None:
        """The plan after this one was carried out so far."""
        self.steps += later.steps
        self.failures += later.failures
        self.blocked = later.blocked

    def go_on(self, done: Applied, first_seq: int, plan: Plan) -> None:
        """More of the plan is carried out. `first_seq`: the number of its first record for the sink."""
        self.steps = done.applied_seq + 1 - first_seq
        self.failures += done.failures
        self.made |= {seq + plan.first_seq - first_seq: made for seq, made in done.made.items()}
        self.blocked = done.blocked
        self.in_doubt = bool(done.failures) and not _plans_nothing(plan.steps[self.steps - 1])
        self.ended = self.blocked or self.in_doubt

    def break_off(self, reported: int, plan: Plan) -> None:
        """The sink broke off after so many records. What it has not reported, it may have begun."""
        self.steps = min(max(self.steps, reported) + 1, len(plan.steps))
        self.ended = self.in_doubt = True


class Settling:
    """Of one history. Within a turn of its recorder, and not cancelled."""

    def __init__(self, writer: FrameWriter, planner: Planner, index: Index, present: Present) -> None:
        self._writer, self._planner, self._index, self._present = writer, planner, index, present

    async def settle(self, written: Written, carried: Carried, ahead: Written | None) -> int:
        """Index and journal follow. `ahead`: the next plan, if it is written already. Where this one was not carried
        out as a whole, nothing is left of its later records, and nothing of the next plan.

        Returns: the last record that is carried out.
        Raises:
            StopRule: journal or index cannot be written.
        """
        last_seq = written.plan.first_seq + carried.steps - 1
        if ahead is not None and carried.ended:
            self._writer.owed = [*ahead.extra, *self._writer.owed]
        if not carried.steps:
            await self.withdraw(written)
            return last_seq
        if carried.ended:
            corrections = await self._writer.turn(partial(self._cut_short, written, carried, last_seq))
            await self._writer.shorten(written, last_seq, corrections)
        await self._writer.turn(partial(self._note, written.plan, carried, last_seq))
        return last_seq

    async def withdraw(self, written: Written) -> None:
        """Nothing of the plan is carried out: it never was.

        Raises:
            StopRule: as `settle`.
        """
        await self._writer.turn(partial(self._writer.give_up, written, written.plan.first_seq - 1))
        await self._writer.withdraw(written)
        await self._writer.turn(self._planner.forget)

    def _cut_short(self, written: Written, carried: Carried, last_seq: int) -> list[CatalogChange]:
        """The index takes back the later records; what the catalog says otherwise than was planned. The record in doubt
        may be about an object that one before it has made."""
        self._writer.give_up(written, last_seq)
        *before, last = written.plan.steps[: carried.steps]
        with self._places() as places:
            self._identify(before, carried, places, last)
            return correct_catalog(self._index.catalog, places, last) if carried.in_doubt else []

    def _note(self, plan: Plan, carried: Carried, last_seq: int) -> None:
        """New objects are known; the planner goes on from here."""
        steps = plan.steps[: carried.steps]
        with self._places() as places:
            self._identify(steps[-1:] if carried.ended else steps, carried, places, steps[-1])
        self._planner.applied(last_seq)
        if carried.ended:
            self._planner.forget()

    def _identify(self, steps: Sequence[Step], carried: Carried, places: Places, last: Step) -> None:
        for step in steps:
            identity = carried.made.get(step.seq) or self._look_up(step, places, last)
            if identity is not None and step.oid:
                self._index.catalog.identify(step.oid, identity)
                self._writer.owed.append(Object(step.oid, self._index.catalog.born(step.oid), identity))

    @contextmanager
    def _places(self) -> Iterator[Places]:
        places = Places(self._index, self._present)
        try:
            yield places
        finally:
            places.close()

    def _look_up(self, step: Step, places: Places, last: Step) -> Identity | None:
        """Which object the record has made, where the sink broke off before it told; None: none, or it is gone.

        Nobody knows whether `last` was carried out. So the object is sought where it is kept, then where it was before
        that record, and only then where that record brings it: another object may have that name still."""
        if not step.oid or not (step.made or step.op == Kind.PUBLISH):
            return None
        known = self._index.catalog.identity(step.oid)
        if known is not None:
            return known
        before = [(row.parent, row.name) for row in last.names if row.oid == step.oid]
        for parent, name in [(STORE, b"%d" % step.oid), *before, *self._index.catalog.homes(step.oid)]:
            try:
                handle = self._present.child(places.find(parent), name)
            except ObjectLost:
                continue
            if handle is not None:
                return self._present.facts(places.keep(handle)).identity
        return None


def _plans_nothing(step: Step) -> bool:
    """True when the plan has the record do nothing: that it failed is as planned."""
    record = step.record
    staging = not isinstance(record, Record) or record.staged or record.kind in _STAGING
    return not (staging or step.loses or step.catalog or step.touched)
