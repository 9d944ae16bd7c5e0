"""A rule's states as in the manual, and what must be true whatever happens in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.api import Code
from i2core.rule.life.life import Life
from i2core.rule.life.states import FAULTS, Action, Cause, Event, InvalidTransition, Phase, Transition, advance, fault
from i2core.rule.life.status import RuleStatus, State

STOPPED = Phase()
LISTING = Phase(State.LISTING, Cause.NONE)
MIRRORING = Phase(State.MIRRORING, Cause.NONE)
REPLICATING = Phase(State.REPLICATING, Cause.NONE, mirrored=True)


def after(*events: Event, phase: Phase = STOPPED) -> Transition:
    """The last transition of these events."""
    transition = Transition(phase)
    for event in events:
        transition = advance(transition.phase, event)
    return transition


UP = (Event.START, Event.LISTING_BEGUN, Event.MIRROR_BEGUN, Event.MIRROR_DONE)


def test_from_start_to_replicating() -> None:
    assert after(Event.START) == Transition(LISTING, Code.RULE_RESTARTED, Action.START)
    assert after(Event.START, Event.MIRROR_BEGUN) == Transition(MIRRORING)
    assert after(*UP) == Transition(REPLICATING, Code.MIRROR_DONE)


@pytest.mark.parametrize("over", [Event.RESUMED, Event.MIRROR_DONE])
def test_a_working_rule_reports_nothing(over: Event) -> None:
    life = Life(RuleStatus(name="data1"), lambda rule, code, line: None)
    life.advance(Event.START)
    told = [life.status.as_json()["code"]]
    life.advance(over)
    assert [*told, life.status.as_json()["code"]] == [Code.RULE_RESTARTED, None]


def test_an_empty_source_needs_no_mirroring() -> None:
    assert after(Event.START, Event.MIRROR_DONE).phase == REPLICATING


def test_a_broken_link_costs_no_new_mirror() -> None:
    lost = after(*UP, Event.LINK_LOST)
    assert (lost.phase.state, lost.code, lost.action) == (State.ABNORMAL, Code.NETWORK, Action.RECONNECT)
    retrying = after(Event.LINK_RETRYING, Event.LINK_RETRYING, phase=lost.phase)
    assert (retrying.phase.state, retrying.action) == (State.INVALID, Action.RECONNECT)
    for phase in (lost.phase, retrying.phase):
        assert after(Event.LINK_BACK, phase=phase) == Transition(REPLICATING, None, Action.RESUME)


@pytest.mark.parametrize("begun", [(Event.START,), (Event.START, Event.MIRROR_BEGUN)])
def test_a_link_broken_within_the_mirror_lists_again(begun: tuple[Event, ...]) -> None:
    assert after(*begun, Event.LINK_LOST, Event.LINK_BACK) == Transition(LISTING, None, Action.RESUME)


def test_a_new_compare_must_be_complete_before_a_broken_link_costs_nothing() -> None:
    assert after(*UP, Event.LISTING_BEGUN).phase == LISTING
    assert after(*UP, Event.LISTING_BEGUN, Event.LINK_LOST, Event.LINK_BACK).phase == LISTING


def test_bandwidth_zero_stops_and_mirrors_again_by_itself() -> None:
    stopped = after(*UP, Event.BANDWIDTH_ZERO)
    assert stopped == Transition(Phase(State.STOPPED, Cause.BANDWIDTH), Code.BANDWIDTH_ZERO, Action.HALT)
    assert after(Event.BANDWIDTH_NOT_ZERO, phase=stopped.phase) == Transition(
        LISTING, Code.RULE_RESTARTED, Action.START
    )
    assert after(Event.START, phase=stopped.phase) == Transition(stopped.phase)
    by_hand = after(Event.STOP, phase=stopped.phase)
    assert by_hand == Transition(STOPPED)
    assert after(Event.BANDWIDTH_NOT_ZERO, phase=by_hand.phase) == Transition(STOPPED)


def test_a_mirror_begins_again_although_its_session_ended_while_it_was_held() -> None:
    life = Life(RuleStatus(name="data1"), lambda rule, code, line: None)
    for event in (Event.START, Event.LISTING_BEGUN, Event.MIRROR_BEGUN, Event.HELD):
        life.advance(event)
    assert life.status.held
    life.advance(Event.LISTING_BEGUN)
    assert (life.phase, life.status.held) == (LISTING, False)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Event.WORK_DISK_FULL, Code.WORK_FULL),
        (Event.REPLICA_DISK_FULL, Code.REPLICA_FULL),
        (Event.SOURCE_GONE, Code.SOURCE_GONE),
        (Event.SOURCE_FAILED, Code.READ_SOURCE),
        (Event.FAILED, Code.INTERNAL),
    ],
)
def test_a_fault_waits_for_a_human(fault: Event, code: Code) -> None:
    stopped = after(*UP, fault)
    assert stopped == Transition(Phase(State.STOPPED, Cause.FAULT), code, Action.HALT)
    assert after(Event.BANDWIDTH_NOT_ZERO, phase=stopped.phase) == Transition(stopped.phase)
    assert after(Event.START, phase=stopped.phase).phase == LISTING


def test_a_held_mass_delete() -> None:
    held = after(*UP, Event.HELD)
    phase = Phase(State.ABNORMAL, Cause.HELD, mirrored=True, held_in=State.REPLICATING)
    assert held == Transition(phase, Code.MASS_DELETE_HELD, Action.WAIT)
    assert after(Event.RELEASED, phase=held.phase) == Transition(REPLICATING, None, Action.RESUME)
    assert after(Event.LINK_LOST, Event.LINK_BACK, phase=held.phase).phase == REPLICATING
    assert after(Event.START, Event.HELD, Event.RELEASED).phase == LISTING
    assert after(Event.START, Event.MIRROR_BEGUN, Event.HELD, Event.HELD, Event.RELEASED).phase == MIRRORING


def test_a_full_replica_may_be_reported_when_the_link_is_back() -> None:
    for before in ((*UP, Event.LINK_LOST), (*UP, Event.LINK_LOST, Event.LINK_RETRYING), (*UP, Event.HELD)):
        stopped = after(*before, Event.REPLICA_DISK_FULL)
        assert stopped == Transition(Phase(State.STOPPED, Cause.FAULT), Code.REPLICA_FULL, Action.HALT)


def test_every_error_that_ends_a_run_is_a_fault() -> None:
    assert {fault(code) for code in Code} == set(FAULTS)
    assert [FAULTS[fault(code)] for code in FAULTS.values()] == list(FAULTS.values())


@pytest.mark.parametrize(
    ("before", "event"),
    [
        ((), Event.LINK_LOST),
        ((), Event.MIRROR_DONE),
        ((), Event.REPLICA_DISK_FULL),
        (UP, Event.START),
        (UP, Event.LINK_BACK),
        (UP, Event.LINK_RETRYING),
        (UP, Event.RELEASED),
        (UP, Event.MIRROR_BEGUN),
        (UP, Event.MIRROR_DONE),
        ((*UP, Event.LINK_LOST), Event.MIRROR_DONE),
        ((*UP, Event.LINK_LOST), Event.LINK_LOST),
        ((*UP, Event.LINK_LOST), Event.HELD),
        ((*UP, Event.HELD), Event.LINK_BACK),
        ((*UP, Event.BANDWIDTH_ZERO), Event.SOURCE_GONE),
    ],
)
def test_impossible_events_are_refused(before: tuple[Event, ...], event: Event) -> None:
    phase = after(*before).phase
    with pytest.raises(InvalidTransition, match=event.value):
        advance(phase, event)


@given(st.lists(st.sampled_from(Event)))
def test_invariants(events: list[Event]) -> None:
    phase = STOPPED
    for event in events:
        before = phase
        try:
            phase, code, action = advance(phase, event)
        except InvalidTransition:
            continue
        # A state and its cause go together.
        assert (phase.cause is Cause.NONE) == (phase.state in (State.LISTING, State.MIRRORING, State.REPLICATING))
        assert phase.cause is Cause.LINK or phase.state is not State.INVALID
        assert (phase.cause is Cause.HELD) == (phase.held_in is not None)
        # Live replication only follows a complete mirror, and a stopped rule has none any more.
        assert phase.mirrored or phase.state is not State.REPLICATING
        assert not (phase.mirrored and phase.state in (State.STOPPED, State.LISTING, State.MIRRORING))
        # The runner is halted exactly when a rule stops, and started exactly when it leaves that state, or starts
        # again.
        stops = phase.state is State.STOPPED and before.state is not State.STOPPED
        starts = phase.state is not State.STOPPED and before.state is State.STOPPED
        assert (action is Action.HALT) == stops
        assert (action is Action.START) == (starts or event in (Event.CATALOG_LOST, Event.RESTARTED))
        # Nobody but a human ends what a fault stopped, or a human.
        if starts and event is not Event.START:
            assert before.cause is Cause.BANDWIDTH
        if phase.cause in (Cause.FAULT, Cause.LINK, Cause.BANDWIDTH, Cause.HELD) and phase != before:
            assert code is not None
    # From anywhere a human can stop the rule, and start it again.
    assert after(Event.STOP, Event.START, phase=phase).phase == LISTING


@pytest.mark.parametrize(
    "before", [(), (Event.LINK_LOST,), (Event.LINK_LOST, Event.LINK_RETRYING), (Event.HELD,)], ids=str
)
def test_a_lost_catalog_lists_again_wherever_the_rule_stands(before: tuple[Event, ...]) -> None:
    assert after(*UP, *before, Event.CATALOG_LOST).phase == LISTING
