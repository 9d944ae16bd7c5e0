"""What is in doubt when a session begins: decided from what was sent, answered, and kept."""

from __future__ import annotations

from i2core.api import Place
from i2core.rule.live.ledger import Doubts, Ledger, add_doubt
from i2core.rule.reading.catalog import Doubt


def doubt(number: int, *, deep: bool = False) -> Doubt:
    """A doubt about a name of its own."""
    return Doubt(1, b"%d" % number, number, deep)


def about(number: int) -> Doubts:
    """What one batch was about."""
    return {(Place(0, b"%d" % number), number): doubt(number)}


def ledger(*, kept: bool = True) -> Ledger:
    """Three batches: 1-10, 11-20, 21-30."""
    made = Ledger()
    for number, last in enumerate((10, 20, 30), 1):
        made.add(last, 1000 * number, about(number), kept=kept)
    return made


def found(made: Ledger, applied: int, *, exact: bool = True) -> list[int]:
    """The numbers of the batches in doubt."""
    return [each.node for each in made.resume(applied, exact=exact)]


def test_what_was_answered_and_what_is_sent_again_is_not_in_doubt() -> None:
    made = ledger()
    made.answered(10)
    assert found(made, 10) == []


def test_what_was_applied_and_not_answered_is_in_doubt() -> None:
    """Whether it failed nobody heard."""
    made = ledger()
    made.answered(10)
    assert found(made, 20) == [2]
    assert found(made, 30) == [2, 3]


def test_a_batch_that_was_cut_short_is_in_doubt() -> None:
    """Only its rest is sent again."""
    made = ledger()
    made.answered(10)
    assert found(made, 15) == [2]


def test_a_node_that_broke_down_puts_all_in_doubt() -> None:
    made = ledger()
    made.answered(30)
    made.durable(10)
    assert found(made, 10, exact=False) == [2, 3]


def test_what_nobody_keeps_is_in_doubt_unless_answered() -> None:
    made = ledger(kept=False)
    made.answered(20)
    assert found(made, 20) == [3]


def test_what_is_durable_is_forgotten() -> None:
    made = ledger()
    assert made.oldest_ns == 1000
    made.durable(20)
    assert (made.oldest_ns, made.durable_seq) == (3000, 20)
    made.durable(30)
    assert made.oldest_ns is None


def test_what_is_durable_before_it_is_entered_is_not_waited_for() -> None:
    """A compare ends behind the last of its records, which may be durable by then."""
    made = Ledger()
    made.durable(10)
    made.add(10, 1000, about(1), kept=False)
    assert made.oldest_ns is None


def test_a_failure_finds_every_object_that_had_its_name() -> None:
    made = Ledger()
    doubts: Doubts = {}
    place = Place(0, b"a")
    add_doubt(doubts, place, doubt(7, deep=True))
    add_doubt(doubts, place, doubt(7))
    add_doubt(doubts, place, doubt(8))
    made.add(5, 0, doubts, kept=True)
    assert made.about(3, place) == [doubt(7, deep=True), doubt(8)]
    assert made.about(6, place) == []
