"""Starts and stops one rule of the daemon, and keeps its errors from other rules.

A rule whose bandwidth limit is 0 is stopped, and starts by itself when the limit is raised.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable

import attrs
import trio

from i2core.api import Code, I2Error
from i2core.limits.throttle import Throttle
from i2core.node.daemon.faults import as_i2error, leading
from i2core.rule.life.life import Life
from i2core.rule.life.report import Say
from i2core.rule.life.states import Action, Cause, Event, advance, fault
from i2core.rule.life.status import RuleStatus
from i2core.rule.work.run_view import RunView

Run = Callable[[Life], Awaitable[None]]
"""One run of a rule, with a new status. It returns or raises when it ends by itself; cancel it to end it."""


@attrs.define
class RuleRunner:
    """Manages one rule across its runs. Call it from the trio thread only."""

    name: str
    run: Run
    say: Say
    throttle: Throttle = attrs.field(factory=Throttle)
    """The bandwidth limits of this rule; call `limited` when one of them changes."""
    view: RunView = attrs.field(factory=RunView)
    """Sees the run while there is one."""
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
        """Figures of the current run, or of the last one."""
        return self.life.status

    @property
    def running(self) -> bool:
        """True from `start` until the run has ended, for any reason."""
        return self._scope is not None

    @property
    def will_run(self) -> bool:
        """True while it runs, or starts by itself when its bandwidth limit is above 0."""
        return self.running or self.life.phase.cause is Cause.BANDWIDTH

    def start(self, nursery: trio.Nursery, *, compare: bool = False) -> bool:
        """Starts a run in `nursery`; False if one is running, or waits for a bandwidth limit above 0. The figures are
        reset, except how far the replica is. With `compare` the run ignores all state of earlier runs, and compares
        everything."""
        self._nursery = nursery
        begun = self._begin(Event.START)
        if begun:
            self._compares = compare
        return begun

    def take_compare(self) -> bool:
        """True if the run that starts was asked to compare everything. Resets the request."""
        compares, self._compares = self._compares, False
        return compares

    def _begin(self, event: Event) -> bool:
        if self.running or advance(self.life.phase, event).action is not Action.START:
            return False
        self.life = Life(self._next_status(), self.say, self.life.phase)
        self.status.bandwidth_bps = self.throttle.bps
        self.life.advance(event)
        if self.throttle.bps == 0:
            self.life.advance(Event.BANDWIDTH_ZERO)
            return True
        assert self._nursery is not None
        self._scope, self._idle, self._ending = trio.CancelScope(), trio.Event(), Event.STOP
        self._nursery.start_soon(self._live, self._scope)
        return True

    def _next_status(self) -> RuleStatus:
        """The status of a new run. How far the replica is stays as it was until a session says otherwise: the run may
        be refused before that."""
        before = self.status
        return RuleStatus(name=self.name, seq=before.seq, durable_seq=before.durable_seq)

    async def stop(self) -> bool:
        """Ends the run, or the wait for bandwidth, and returns when its resources are released; False if there was
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
        """Stops or starts the rule after a change of its bandwidth limits."""
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
            # Every error is kept to this rule: its nursery also runs all the other rules.
            error = as_i2error(problem)
            if error.code is Code.INTERNAL:
                self.say(self.name, None, "".join(traceback.format_exception(leading(problem))))
        finally:
            self.life.advance(self._ending if error is None else fault(error.code), error)
            self._scope = None
            self._idle.set()
            # The limit may have been raised while the run ended.
            self.limited()
