"""Unfinished work: each kind counts in each question, also a kind that is added later."""

from __future__ import annotations

from typing import Any, cast

import attrs
import pytest

from i2core.rule.live.backlog import Backlog, BrokenOff, Parked, Unreadable, Unsent
from i2core.rule.live.dirty import DirtySet
from i2core.rule.live.part import NEVER, Part
from i2core.rule.live.unpinned import Unpinned
from i2core.rule.source.passing import Passing

AGE_NS = 1000


class Kind(Part):
    """Any kind of work; it implements no more than it must."""

    def __init__(self) -> None:
        self.since_ns: int | None = None

    @property
    def oldest_ns(self) -> int | None:
        return self.since_ns


@attrs.frozen(kw_only=True, slots=False)
class More(Backlog):
    """A backlog to which somebody has added a field, and nothing else."""

    added: Kind = attrs.field(factory=Kind)


def empty() -> More:
    def kind() -> Any:
        return cast(Any, Kind())

    return More(
        dirty=DirtySet(),
        directories=kind(),
        in_work=kind(),
        in_transit=kind(),
        large=kind(),
        unreadable=Unreadable(Passing()),
        unpinned=Unpinned(),
        unverified=kind(),
        sent=kind(),
    )


def test_nothing_is_left() -> None:
    backlog = empty()
    assert backlog.oldest_ns is None
    assert backlog.is_empty
    assert backlog.rests
    assert not backlog.is_due
    assert not backlog.owes(AGE_NS)
    assert backlog.due_at == NEVER


def test_a_kind_that_is_added_counts_everywhere() -> None:
    """Lag, rest and the end of a run include it, without a line about it in any of them."""
    backlog = empty()
    backlog.added.since_ns = AGE_NS
    assert backlog.oldest_ns == AGE_NS
    assert not backlog.is_empty
    assert not backlog.rests
    assert backlog.is_due
    assert backlog.owes(AGE_NS)
    assert not backlog.owes(AGE_NS - 1)


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(Backlog) if field.init])
def test_every_kind_counts(name: str) -> None:
    backlog = empty()
    kind = Kind()
    kind.since_ns = AGE_NS
    changed: Any = {name: kind}
    backlog = attrs.evolve(backlog, **changed)
    assert backlog.oldest_ns == AGE_NS
    assert not backlog.is_empty
    assert backlog.owes(AGE_NS)


def test_the_oldest_counts() -> None:
    backlog = empty()
    backlog.added.since_ns = AGE_NS
    cast(Kind, backlog.sent).since_ns = AGE_NS - 1
    assert backlog.oldest_ns == AGE_NS - 1


def test_what_is_taken_is_empty() -> None:
    unsent, parked, broken_off = Unsent(), Parked(), BrokenOff()
    unsent.put([cast(Any, object())], AGE_NS)
    broken_off.add([(cast(Any, object()), AGE_NS + 1), (cast(Any, object()), AGE_NS)])
    parked.add([])
    assert (unsent.oldest_ns, broken_off.oldest_ns, parked.oldest_ns) == (AGE_NS, AGE_NS, None)
    assert broken_off.doubtful == 2
    assert len(unsent.take()) == 1
    assert len(broken_off.files) == 2
    broken_off.clear()
    assert unsent.is_empty
    assert broken_off.is_empty
