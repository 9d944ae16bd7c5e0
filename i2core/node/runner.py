"""One rule of the daemon: started, stopped, and isolated, so that its errors are its own."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable

import attrs
import trio

from i2core.api import Code
from i2core.node.faults import as_i2error, leading
from i2core.rule.line import Line
from i2core.rule.status import RuleStatus, State

Say = Callable[[str, Code | None, str], None]
Run = Callable[[RuleStatus], Awaitable[None]]
"""The rule's life with a fresh status: returns or raises when it ends by itself, is cancelled to end it."""


@attrs.define
class RuleRunner:
    """Holds one rule's status over its runs. All calls from the trio thread."""

    name: str
    run: Run
    say: Say
    status: RuleStatus = attrs.field(init=False)
    _scope: trio.CancelScope | None = attrs.field(default=None, init=False)
    _idle: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self.status = RuleStatus(name=self.name)

    @property
    def running(self) -> bool:
        """True from `start` until the run has ended, by whatever cause."""
        return self._scope is not None

    def start(self, nursery: trio.Nursery) -> bool:
        """Begins a run in `nursery`; False when one is under way. Figures begin anew."""
        if self.running:
            return False
        self.status = RuleStatus(name=self.name)
        self._scope = trio.CancelScope()
        self._idle = trio.Event()
        nursery.start_soon(self._live, self._scope)
        return True

    async def stop(self) -> bool:
        """Ends the run and waits until it has let go of everything; False when there was none.

        Cancellation: the run ends all the same.
        """
        if self._scope is None:
            return False
        self._scope.cancel()
        await self._idle.wait()
        return True

    async def _live(self, scope: trio.CancelScope) -> None:
        status = self.status
        try:
            with scope:
                await self.run(status)
            status.clear()
        except Exception as error:
            # Whatever went wrong belongs to this rule; the nursery it lives in carries all the others.
            known = as_i2error(error)
            status.note(known)
            self.say(self.name, known.code, Line.of(known, "stopped: "))
            if known.code is Code.INTERNAL:
                self.say(self.name, None, "".join(traceback.format_exception(leading(error))))
        finally:
            status.state = State.STOPPED
            self._scope = None
            self._idle.set()
