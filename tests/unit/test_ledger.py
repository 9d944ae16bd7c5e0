"""What is unverified at the start of a session: decided by what was sent, answered, and kept."""

from __future__ import annotations

from i2core.api import Place
from i2core.rule.catalog.rows import Depth, Doubt
from i2core.rule.outgoing.ledger import Doubts, Ledger, add_doubt, without_places


def doubt(number: int, *, deep: bool = False) -> Doubt:
    """A doubt about a name of its own."""
    return Doubt(1, b"%d" % number, number, Depth(deep))


def about(number: int) -> Doubts:
    """The doubts of one batch."""
    return {(Place(0, b"%d" % number), number): doubt(number)}


def ledger(*, kept: bool = True) -> Ledger:
    """Three batches: 1-10, 11-20, 21-30."""
    made = Ledger()
    for number, last in enumerate((10, 20, 30), 1):
        made.add(last, 1000 * number, about(number), kept=kept)
    return made


def found(made: Ledger, applied: int, *, exact: bool = True) -> list[int]:
    """The numbers of the unverified batches."""
    return [each.node for each in made.resume(applied, exact=exact)]


def test_what_was_answered_and_what_is_sent_again_is_not_unverified() -> None:
    made = ledger()
    made.answered(10)
    assert found(made, 10) == []


def test_what_was_applied_and_not_answered_is_unverified() -> None:
    """Its failures may not have been reported."""
    made = ledger()
    made.answered(10)
    assert found(made, 20) == [2]
    assert found(made, 30) == [2, 3]


def test_a_batch_that_was_applied_in_part_is_unverified() -> None:
    """Only its rest is resent."""
    made = ledger()
    made.answered(10)
    assert found(made, 15) == [2]


def test_a_crash_of_the_node_makes_everything_unverified() -> None:
    made = ledger()
    made.answered(30)
    made.durable(10)
    assert found(made, 10, exact=False) == [2, 3]


def test_what_the_outbox_lacks_is_unverified_unless_answered() -> None:
    made = ledger(kept=False)
    made.answered(20)
    assert found(made, 20) == [3]


def test_a_replica_that_went_back_has_what_it_answered_no_more() -> None:
    """With a history it goes back to its durable state after a crash. The outbox sends those records again; what it
    lacks is unverified."""
    made = ledger()
    made.answered(30)
    assert found(made, 10) == []
    made = ledger(kept=False)
    made.answered(30)
    assert found(made, 10) == [2, 3]


def test_what_is_durable_is_forgotten() -> None:
    made = ledger()
    assert made.oldest_ns == 1000
    made.durable(20)
    assert (made.oldest_ns, made.durable_seq) == (3000, 20)
    made.durable(30)
    assert made.oldest_ns is None


def test_what_is_durable_before_it_is_entered_is_not_waited_for() -> None:
    """A compare ends after the last of its records, which may be durable by then."""
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


def test_the_same_name_removed_from_two_directories_leaves_two_doubts() -> None:
    """`mv d1/x a; mv d2/x b`: neither old name has an object, and a restart knows no more than this."""
    removed = [Doubt(1, b"x", 0), Doubt(2, b"x", 0), Doubt(0, b"0", 3)]
    made = Ledger()
    made.add(5, 0, without_places(removed), kept=False)
    assert list(made.resume(5, exact=True)) == removed
    assert made.about(3, Place(0, b"x")) == []
