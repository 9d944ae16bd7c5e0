"""Any sequence of operations and accidents that hypothesis can think of: the replica must equal the source.

Each kind of operation is a rule of its own, so that a failure shrinks to the few that matter. `test_live_random` plays
long histories from a seed; here the short ones are searched.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from i2core.api import Place

from .operations import WEIGHTS
from .test_live_random import CAPTURES, Application, open_application

if TYPE_CHECKING:
    from tests.conftest import OpenPair, Pair

T = TypeVar("T")
SEEDS = st.integers(0, 2**32 - 1)
STEPS = 15


class Loop:
    """A pair and its application in an event loop of their own: hypothesis calls from outside."""

    def __init__(self, open_pair: OpenPair, capture: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="i2-machine-"))
        self.pair: Pair
        self.application: Application
        self._open_pair = open_pair
        self._capture = capture
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="pair")
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def call(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """Runs a coroutine function in the loop."""
        return trio.from_thread.run(function, *args, trio_token=self._token)

    def close(self) -> None:
        """Ends the loop, and removes everything."""
        trio.from_thread.run_sync(self._over.set, trio_token=self._token)
        self._thread.join()
        shutil.rmtree(self.home, ignore_errors=True)

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:
            self._error = error
            self._ready.set()

    async def _main(self) -> None:
        self._token, self._over = trio.lowlevel.current_trio_token(), trio.Event()
        async with AsyncExitStack() as stack:
            opened = self._open_pair(capture=self._capture, roots=2, home=self.home)
            self.pair = await stack.enter_async_context(opened)
            outside = self.home / "outside"
            self.application = await stack.enter_async_context(open_application(outside, self.pair.sources))
            self._ready.set()
            await self._over.wait()


class Machine(RuleBasedStateMachine):
    """Operations on the sources, accidents, and checks in between."""

    open_loop: Callable[[], Loop]

    @initialize()
    def begin(self) -> None:
        """Starts both nodes."""
        self.loop = type(self).open_loop()

    @rule()
    def cut(self) -> None:
        """The link breaks."""
        self.loop.call(self._in_loop, self.loop.pair.cut)

    @rule()
    def restart_backup(self) -> None:
        """The backup node goes down and comes back."""
        self.loop.call(self.loop.pair.restart_backup)

    @rule()
    def restart_work(self) -> None:
        """The rule ends in the middle of its work, and is started again."""
        self.loop.call(self.loop.pair.stop_work)
        self.loop.call(self.loop.pair.start_work)

    @rule(root=st.integers(0, 1))
    def lose(self, root: int) -> None:
        """Events are lost."""
        self.loop.call(self.loop.pair.lose, Place(root, b""))

    @rule()
    def fail(self) -> None:
        """The next record cannot be applied."""
        self.loop.pair.drivers.faults.armed = lambda record: True

    @rule()
    def check(self) -> None:
        """The trees are equal."""
        self.loop.call(self.loop.pair.check)

    def teardown(self) -> None:
        """Checks the last operations as well."""
        loop = getattr(self, "loop", None)
        if loop is not None:
            try:
                loop.call(loop.pair.check)
            finally:
                loop.close()

    @staticmethod
    async def _in_loop(function: Callable[[], None]) -> None:
        function()


def _operation(name: str) -> Any:
    @rule(seed=SEEDS)
    def operate(self: Machine, seed: int) -> None:
        self.loop.call(self.loop.application.work, seed, 1, name)

    return operate


OPERATIONS = {f"do_{name}": _operation(name) for name in WEIGHTS}


@pytest.mark.slow
@pytest.mark.parametrize("capture", CAPTURES)
def test_any_sequence(open_pair: OpenPair, capture: str) -> None:
    assert len(OPERATIONS) >= 25
    machine = type("Machine", (Machine,), {"open_loop": staticmethod(lambda: Loop(open_pair, capture)), **OPERATIONS})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=settings.default.max_examples // 20 if settings.default else 5,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
