"""One rule of the daemon: started, stopped, and isolated, so that its errors are its own.

A rule whose bandwidth limit is 0 is stopped, and starts by itself when the limit is lifted.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable

import attrs
import trio

from i2core.api import Code, I2Error
from i2core.node.faults import as_i2error, leading
from i2core.pipeline.throttle import Throttle
from i2core.rule.life import Life
from i2core.rule.line import Say
from i2core.rule.states import Action, Cause, Event, advance, fault
from i2core.rule.status import RuleStatus

Run = Callable[[Life], Awaitable[None]]
"""One run, with a fresh status: returns or raises when it ends by itself, is cancelled to end it."""


@attrs.define
class RuleRunner:
    """Holds one rule's life over its runs. All calls from the trio thread."""

    name: str
    run: Run
    say: Say
    throttle: Throttle = attrs.field(factory=Throttle)
    """The limits of what this rule sends; `limited` is to be called when one of them changes."""
    life: Life = attrs.field(init=False)
    _nursery: trio.Nursery | None = attrs.field(default=None, init=False)
    _scope: trio.CancelScope | None = attrs.field(default=None, init=False)
    _idle: trio.Event = attrs.field(factory=trio.Event, init=False)
    _ending: Event = attrs.field(default=Event.STOP, init=False)
    _compares: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.life = Life(RuleStatus(name=self.name), self.say)

    @property
    def status(self) -> RuleStatus:
        """Figures of the run under way, or of the last one."""
        return self.life.status

    @property
    def running(self) -> bool:
        """True from `start` until the run has ended, by whatever cause."""
        return self._scope is not None

    def start(self, nursery: trio.Nursery, *, compare: bool = False) -> bool:
        """Begins a run in `nursery`; False when one is under way, or will be as soon as the bandwidth limit is not 0.
        Figures begin anew. With `compare` the run relies on nothing that an earlier one left."""
        self._nursery = nursery
        begun = self._begin(Event.START)
        if begun:
            self._compares = compare
        return begun

    def take_compare(self) -> bool:
        """True when the run that begins is the one that was to compare everything."""
        compares, self._compares = self._compares, False
        return compares

    def _begin(self, event: Event) -> bool:
        if self.running or advance(self.life.phase, event).action is not Action.START:
            return False
        self.life = Life(RuleStatus(name=self.name), self.say, self.life.phase)
        self.status.bandwidth_bps = self.throttle.bps
        self.life.advance(event)
        if self.throttle.bps == 0:
            self.life.advance(Event.BANDWIDTH_ZERO)
            return True
        assert self._nursery is not None
        self._scope, self._idle, self._ending = trio.CancelScope(), trio.Event(), Event.STOP
        self._nursery.start_soon(self._live, self._scope)
        return True

    async def stop(self) -> bool:
        """Ends the run, or the waiting for bandwidth, and waits until it has let go of everything; False when there was
        none.

        Cancellation: the run ends all the same.
        """
        if self._scope is None:
            waited = self.life.phase.cause is Cause.BANDWIDTH
            if waited:
                self.life.advance(Event.STOP)
            return waited
        self._ending = Event.STOP
        self._scope.cancel()
        await self._idle.wait()
        return True

    def limited(self) -> None:
        """A bandwidth limit of this rule may have changed: what that means for its life."""
        bps = self.status.bandwidth_bps = self.throttle.bps
        if bps != 0:
            if self.life.phase.cause is Cause.BANDWIDTH:
                self._begin(Event.BANDWIDTH_NOT_ZERO)
        elif self._scope is not None and not self._scope.cancel_called:
            self._ending = Event.BANDWIDTH_ZERO
            self._scope.cancel()

    async def _live(self, scope: trio.CancelScope) -> None:
        error: I2Error | None = None
        try:
            with scope:
                await self.run(self.life)
        except Exception as problem:
            # Whatever went wrong belongs to this rule; the nursery it lives in carries all the others.
            error = as_i2error(problem)
            if error.code is Code.INTERNAL:
                self.say(self.name, None, "".join(traceback.format_exception(leading(problem))))
        finally:
            self.life.advance(self._ending if error is None else fault(error.code), error)
            self._scope = None
            self._idle.set()
            # The limit may have been lifted while the run let go.
            self.limited()
