"""A rule's life: its phase, over all of its runs, and the status and the logbook that show each step of it."""

from __future__ import annotations

from i2core.api import I2Error
from i2core.rule.line import Line, Say
from i2core.rule.states import Action, Event, Phase, advance
from i2core.rule.status import RuleStatus

_OVER = (Event.MIRROR_DONE, Event.RESUMED, Event.RELEASED, Event.LINK_BACK, Event.STOP)
"""Behind these nothing is wrong any more."""


class Life:
    """Takes a rule from phase to phase. `phase` is where it stood before, a new rule is stopped."""

    def __init__(self, status: RuleStatus, say: Say, phase: Phase | None = None) -> None:
        self.status = status
        self.phase = phase or Phase()
        self._say = say
        status.state, status.reason = self.phase.state, self.phase.cause.value

    def advance(self, event: Event, error: I2Error | None = None) -> Action:
        """Takes the step that `event` asks for, and gives what is to be done now; `error` is what brought it about.

        Raises:
            InvalidTransition: the event cannot happen now.
        """
        transition = advance(self.phase, event)
        status, before, now = self.status, self.phase.state, transition.phase.state
        self.phase = transition.phase
        status.state, status.reason = now, transition.phase.cause.value
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
