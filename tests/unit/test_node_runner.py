"""A rule of the daemon lives on its own: it starts, stops, fails and starts again without touching the others."""

from __future__ import annotations

import trio
import trio.testing

from i2core.api import Code, StopRule
from i2core.node.runner import RuleRunner
from i2core.rule.status import RuleStatus, State

Line = tuple[str, Code | None, str]


async def _live(status: RuleStatus) -> None:
    status.state = State.REPLICATING
    await trio.sleep_forever()


async def test_start_and_stop_tell_whether_there_was_something_to_do() -> None:
    runner = RuleRunner("a", _live, lambda *line: None)
    assert not await runner.stop()
    async with trio.open_nursery() as nursery:
        assert runner.start(nursery)
        assert not runner.start(nursery)
        await trio.testing.wait_all_tasks_blocked()
        assert runner.status.as_json()["state"] == "replicating"
        assert await runner.stop()
        assert runner.status.as_json()["state"] == "stopped"
        assert runner.status.code is None
        assert not runner.running


async def test_an_error_stops_that_rule_alone_and_it_can_start_again() -> None:
    lines: list[Line] = []
    runs = 0

    async def fails_once(status: RuleStatus) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ExceptionGroup("", [StopRule("no space", code=Code.REPLICA_FULL, obj="/r/x")])
        await _live(status)

    bad = RuleRunner("bad", fails_once, lambda *line: lines.append(line))
    good = RuleRunner("good", _live, lambda *line: lines.append(line))
    async with trio.open_nursery() as nursery:
        bad.start(nursery)
        good.start(nursery)
        await trio.testing.wait_all_tasks_blocked()
        assert (bad.status.state, bad.status.code) == (State.STOPPED, Code.REPLICA_FULL)
        assert "no space" in bad.status.cause
        assert good.status.state is State.REPLICATING
        assert [line[:2] for line in lines] == [("bad", Code.REPLICA_FULL)]
        assert bad.start(nursery)
        await trio.testing.wait_all_tasks_blocked()
        assert (bad.status.state, bad.status.code) == (State.REPLICATING, None)
        nursery.cancel_scope.cancel()
    assert not bad.running


async def test_a_mistake_of_ours_stops_the_rule_and_leaves_its_traceback_in_the_logbook() -> None:
    lines: list[Line] = []

    async def broken(status: RuleStatus) -> None:
        raise ZeroDivisionError("ours")

    runner = RuleRunner("a", broken, lambda *line: lines.append(line))
    async with trio.open_nursery() as nursery:
        runner.start(nursery)
    assert runner.status.code is Code.INTERNAL
    assert "ZeroDivisionError: ours" in lines[0][2]
    assert "Traceback" in lines[1][2]


async def test_stopping_waits_until_the_run_has_let_go() -> None:
    let_go = False

    async def slow(status: RuleStatus) -> None:
        nonlocal let_go
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            let_go = True

    runner = RuleRunner("a", slow, lambda *line: None)
    async with trio.open_nursery() as nursery:
        runner.start(nursery)
        await trio.testing.wait_all_tasks_blocked()
        await runner.stop()
        assert let_go
