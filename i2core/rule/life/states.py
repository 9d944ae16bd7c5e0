"""How a rule moves between its states: a pure table of what each event means in each state.

::

    stopped ─start→ listing → mirroring → replicating        any ─stop, limit 0, disk full, source gone→ stopped
                       ↑           ↑           ↑
                       └───────────┴──link back┴── invalid ←retrying── abnormal ←link lost, held── listing … replicating

A stopped rule remembers why. Only a rule that was stopped by its bandwidth limit starts again by itself; a rule that
was stopped by a fault waits for a person. When the link is back, a rule whose mirror was complete replicates again,
from the last durable seq on; any other rule lists again. A held rule keeps its connection. When it is released, it
continues what it was doing.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from i2core.api import Code, I2Error
from i2core.rule.life.status import State


class Cause(enum.Enum):
    """Why a rule is stopped or abnormal; `NONE` while it works."""

    NONE = "none"
    USER = "user"
    BANDWIDTH = "bandwidth"
    FAULT = "fault"
    LINK = "link"
    HELD = "held"


class Event(enum.Enum):
    """What happens to a rule."""

    START = "start"
    STOP = "stop"
    LISTING_BEGUN = "listing begun"
    """Also from replicating or mirroring: the sides must be compared again. Or while held: the backup node's disk
    became full meanwhile, which ended the session, and the mirror begins again."""
    MIRROR_BEGUN = "mirror begun"
    MIRROR_DONE = "mirror done"
    RESUMED = "resumed"
    """An earlier run left a replica that needs no mirror."""
    CATALOG_LOST = "catalog lost"
    """The catalog is damaged: everything is compared."""
    RESTARTED = "restarted"
    """The run ended because of a temporary lack, of descriptors for example. Another run starts by itself."""
    LINK_LOST = "link lost"
    LINK_RETRYING = "link retrying"
    """The first attempt to reconnect failed; the next ones follow with a back-off."""
    LINK_BACK = "link back"
    BANDWIDTH_ZERO = "bandwidth zero"
    BANDWIDTH_NOT_ZERO = "bandwidth not zero"
    SOURCE_FAILED = "source failed"
    """A file cannot be read, and the rule says ``on_error = "stop"``."""
    SOURCE_GONE = "source gone"
    WORK_DISK_FULL = "work disk full"
    REPLICA_DISK_FULL = "replica disk full"
    """Reported in a session, or as the reason why a session was refused."""
    FAILED = "failed"
    """Any other error that a person must deal with."""
    HELD = "held"
    RELEASED = "released"


class Action(enum.Enum):
    """What the runner does now."""

    NOTHING = "nothing"
    START = "start"
    """Catch changes, list, mirror."""
    HALT = "halt"
    """End capture, mirror and connections; what is durable stays."""
    RECONNECT = "reconnect"
    """Try the link again, with back-off; changes are caught meanwhile."""
    RESUME = "resume"
    """Resend everything after the last durable seq."""
    WAIT = "wait"
    """Send nothing until released; changes are caught meanwhile."""


class Phase(NamedTuple):
    """The state of a rule, and what decides the next one."""

    state: State = State.STOPPED
    cause: Cause = Cause.USER
    mirrored: bool = False
    """The mirror of this run was completed: after a broken link the rule needs no other one."""
    held_in: State | None = None
    """While held: the state to go back to."""


class Transition(NamedTuple):
    """The result of an event. `code` is to be reported; None: there is nothing to report."""

    phase: Phase
    code: Code | None = None
    action: Action = Action.NOTHING


class InvalidTransition(I2Error):
    """The event cannot happen in this state: a bug in the caller."""


WORKING = frozenset({State.LISTING, State.MIRRORING, State.REPLICATING})
FAULTS = {
    Event.SOURCE_FAILED: Code.READ_SOURCE,
    Event.SOURCE_GONE: Code.SOURCE_GONE,
    Event.WORK_DISK_FULL: Code.WORK_FULL,
    Event.REPLICA_DISK_FULL: Code.REPLICA_FULL,
    Event.FAILED: Code.INTERNAL,
}
"""Events that stop a rule until a person has dealt with the cause. If the event came with an error, the code of the
error is more precise."""
_EVENTS = {
    Code.READ_SOURCE: Event.SOURCE_FAILED,
    Code.OPEN_SOURCE: Event.SOURCE_FAILED,
    Code.SOURCE_GONE: Event.SOURCE_GONE,
    Code.WORK_FULL: Event.WORK_DISK_FULL,
    Code.REPLICA_FULL: Event.REPLICA_DISK_FULL,
    Code.REPLICA_NO_INODES: Event.REPLICA_DISK_FULL,
}


def fault(code: Code) -> Event:
    """The event for a rule whose run was ended by an error with this code."""
    return _EVENTS.get(code, Event.FAILED)


def advance(phase: Phase, event: Event) -> Transition:
    """The transition of a rule in this phase at this event.

    Raises:
        InvalidTransition: the event cannot happen in this phase.
    """
    found = _stopped(phase, event) if phase.state is State.STOPPED else _running(phase, event)
    if found is None:
        raise InvalidTransition(
            f"{event.value!r} cannot happen to a rule that is {phase.state.value} ({phase.cause.value})"
        )
    return found


def _stopped(phase: Phase, event: Event) -> Transition | None:
    match event, phase.cause:
        case Event.STOP, _:
            return Transition(Phase(State.STOPPED, Cause.USER))
        case Event.START, Cause.BANDWIDTH:
            # The limit is still 0; the rule starts by itself when it is lifted.
            return Transition(phase)
        case (Event.START, _) | (Event.BANDWIDTH_NOT_ZERO, Cause.BANDWIDTH):
            return Transition(Phase(State.LISTING, Cause.NONE), Code.RULE_RESTARTED, Action.START)
        case (Event.BANDWIDTH_ZERO | Event.BANDWIDTH_NOT_ZERO, _):
            return Transition(phase)
    return None


def _running(phase: Phase, event: Event) -> Transition | None:
    if event in FAULTS:
        return Transition(Phase(State.STOPPED, Cause.FAULT), FAULTS[event], Action.HALT)
    working = phase.state in WORKING
    match event:
        case Event.STOP:
            return Transition(Phase(State.STOPPED, Cause.USER), None, Action.HALT)
        case Event.BANDWIDTH_ZERO:
            return Transition(Phase(State.STOPPED, Cause.BANDWIDTH), Code.BANDWIDTH_ZERO, Action.HALT)
        case Event.BANDWIDTH_NOT_ZERO:
            return Transition(phase)
        case Event.LISTING_BEGUN if working or phase.cause is Cause.HELD:
            return Transition(Phase(State.LISTING, Cause.NONE))
        case Event.CATALOG_LOST | Event.RESTARTED:
            return Transition(Phase(State.LISTING, Cause.NONE), None, Action.START)
        case Event.MIRROR_BEGUN if phase.state is State.LISTING:
            return Transition(phase._replace(state=State.MIRRORING))
        case Event.RESUMED if phase.state is State.LISTING:
            return Transition(Phase(State.REPLICATING, Cause.NONE, mirrored=True))
        case Event.MIRROR_DONE if phase.state in (State.LISTING, State.MIRRORING):
            return Transition(Phase(State.REPLICATING, Cause.NONE, mirrored=True), Code.MIRROR_DONE)
        case Event.LINK_LOST if working or phase.cause is Cause.HELD:
            lost = phase._replace(state=State.ABNORMAL, cause=Cause.LINK, held_in=None)
            return Transition(lost, Code.NETWORK, Action.RECONNECT)
        case Event.LINK_RETRYING if phase.cause is Cause.LINK:
            return Transition(phase._replace(state=State.INVALID), Code.NETWORK, Action.RECONNECT)
        case Event.HELD if working or phase.cause is Cause.HELD:
            held = phase._replace(state=State.ABNORMAL, cause=Cause.HELD, held_in=phase.held_in or phase.state)
            return Transition(held, Code.MASS_DELETE_HELD, Action.WAIT)
        case Event.LINK_BACK if phase.cause is Cause.LINK:
            return _resumed(phase)
        case Event.RELEASED if phase.held_in is not None:
            return Transition(Phase(phase.held_in, Cause.NONE, phase.mirrored), None, Action.RESUME)
    return None


def _resumed(phase: Phase) -> Transition:
    if phase.mirrored:
        return Transition(Phase(State.REPLICATING, Cause.NONE, mirrored=True), None, Action.RESUME)
    return Transition(Phase(State.LISTING, Cause.NONE), None, Action.RESUME)
