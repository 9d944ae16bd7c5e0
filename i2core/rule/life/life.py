"""A rule's life: its phase over all of its runs. Each change is shown in its status and in the logbook."""

from __future__ import annotations

from i2core.api import I2Error
from i2core.rule.life.report import Line, Say
from i2core.rule.life.states import Action, Cause, Event, Phase, advance
from i2core.rule.life.status import RuleStatus

_OVER = (Event.MIRROR_DONE, Event.RESUMED, Event.RELEASED, Event.LINK_BACK, Event.STOP)
"""Events after which no error is shown any more."""


class Life:
    """Moves a rule from phase to phase. `phase` is the phase of its last run; a new rule is stopped."""

    def __init__(self, status: RuleStatus, say: Say, phase: Phase | None = None) -> None:
        self.status = status
        self.phase = phase or Phase()
        self._say = say
        status.state, status.reason = self.phase.state, self.phase.cause.value

    def advance(self, event: Event, error: I2Error | None = None) -> Action:
        """Changes the phase as `event` requires, and returns what is to be done now. `error` caused the event.

        Raises:
            InvalidTransition: the event cannot happen now.
        """
        transition = advance(self.phase, event)
        status, before, now = self.status, self.phase.state, transition.phase.state
        self.phase = transition.phase
        status.state, status.reason = now, transition.phase.cause.value
        status.held = transition.phase.cause is Cause.HELD
        code = transition.code
        if event in _OVER:
            status.clear()
        elif code is not None:
            status.code = code
        if error is not None:
            status.note(error)
            code = error.code
        if now is not before:
            text = f"{before.value} → {now.value}"
            line = Line(text, state=now.value) if error is None else Line.of(error, f"{text}: ", state=now.value)
            self._say(status.name, code, line)
        return transition.action
