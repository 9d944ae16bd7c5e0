"""A rule of the daemon lives on its own: it starts, stops, fails and starts again without touching the others."""

from __future__ import annotations

import trio
import trio.testing

from i2core.api import Code, StopRule
from i2core.node.daemon.rule_runner import RuleRunner
from i2core.rule.life.life import Life
from i2core.rule.life.states import Cause, Event
from i2core.rule.life.status import State

Line = tuple[str, Code | None, str]


async def _live(life: Life) -> None:
    life.advance(Event.MIRROR_DONE)
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

    async def fails_once(life: Life) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ExceptionGroup("", [StopRule("no space", code=Code.REPLICA_FULL, obj="/r/x")])
        await _live(life)

    bad = RuleRunner("bad", fails_once, lambda *line: lines.append(line))
    good = RuleRunner("good", _live, lambda *line: lines.append(line))
    async with trio.open_nursery() as nursery:
        bad.start(nursery)
        good.start(nursery)
        await trio.testing.wait_all_tasks_blocked()
        assert (bad.status.state, bad.status.code) == (State.STOPPED, Code.REPLICA_FULL)
        assert "no space" in bad.status.cause
        assert good.status.state is State.REPLICATING
        assert bad.status.reason == "fault"
        assert [line[:2] for line in lines if line[1] is Code.REPLICA_FULL] == [("bad", Code.REPLICA_FULL)]
        assert bad.start(nursery)
        await trio.testing.wait_all_tasks_blocked()
        assert (bad.status.state, bad.status.code) == (State.REPLICATING, None)
        nursery.cancel_scope.cancel()
    assert not bad.running


async def test_a_run_that_is_refused_still_shows_how_far_the_replica_is() -> None:
    runs = 0

    async def refused_later(life: Life) -> None:
        nonlocal runs
        runs += 1
        if runs > 1:
            raise StopRule("it belongs to another node", code=Code.ILLEGAL_TASK)
        life.status.seq, life.status.durable_seq, life.status.sent_files = 8, 7, 3
        await _live(life)

    runner = RuleRunner("a", refused_later, lambda *line: None)
    async with trio.open_nursery() as nursery:
        runner.start(nursery)
        await trio.testing.wait_all_tasks_blocked()
        await runner.stop()
        runner.start(nursery)
        await trio.testing.wait_all_tasks_blocked()
    shown = runner.status.as_json()
    assert (shown["state"], shown["seq"], shown["durable_seq"], shown["sent_files"]) == ("stopped", 8, 7, 0)


async def test_an_internal_error_stops_the_rule_and_logs_its_traceback() -> None:
    lines: list[Line] = []

    async def broken(life: Life) -> None:
        raise ZeroDivisionError("ours")

    runner = RuleRunner("a", broken, lambda *line: lines.append(line))
    async with trio.open_nursery() as nursery:
        runner.start(nursery)
    assert runner.status.code is Code.INTERNAL
    assert "Traceback" in lines[1][2]
    assert "ZeroDivisionError: ours" in lines[2][2]


async def test_stopping_waits_until_the_run_has_ended() -> None:
    let_go = False

    async def slow(life: Life) -> None:
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


async def _settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_a_limit_of_zero_stops_the_rule_and_another_one_starts_it_again() -> None:
    lines: list[Line] = []
    runner = RuleRunner("a", _live, lambda *line: lines.append(line))
    async with trio.open_nursery() as nursery:
        runner.start(nursery)
        await _settled()
        runner.throttle.own.set(0)
        runner.limited()
        await _settled()
        status = runner.status.as_json()
        assert (status["state"], status["reason"], status["code"]) == ("stopped", "bandwidth", Code.BANDWIDTH_ZERO)
        assert status["bandwidth_bps"] == 0
        assert "limit" in status["cause"]
        assert status["next_step"]
        assert not runner.running
        # By hand it does not start as long as nothing may be sent.
        assert not runner.start(nursery)
        runner.limited()
        await _settled()
        assert not runner.running
        runner.throttle.own.set(2_000_000)
        runner.limited()
        await _settled()
        status = runner.status.as_json()
        assert (status["state"], status["reason"], status["code"]) == ("replicating", "none", None)
        assert status["bandwidth_bps"] == 2_000_000
        await runner.stop()
    codes = [code for _, code, _ in lines if code is not None]
    assert codes == [
        Code.RULE_RESTARTED,
        Code.MIRROR_DONE,
        Code.BANDWIDTH_ZERO,
        Code.RULE_RESTARTED,
        Code.MIRROR_DONE,
    ]


async def test_a_rule_started_while_the_limit_is_zero_waits_for_it() -> None:
    runs = 0

    async def counted(life: Life) -> None:
        nonlocal runs
        runs += 1
        await _live(life)

    runner = RuleRunner("a", counted, lambda *line: None)
    runner.throttle.own.set(0)
    async with trio.open_nursery() as nursery:
        assert runner.start(nursery)
        await _settled()
        assert (runs, runner.life.phase.cause) == (0, Cause.BANDWIDTH)
        runner.throttle.own.set(None)
        runner.limited()
        await _settled()
        assert (runs, runner.status.state) == (1, State.REPLICATING)
        await runner.stop()


async def test_a_rule_that_waits_for_bandwidth_can_be_stopped_by_hand() -> None:
    runner = RuleRunner("a", _live, lambda *line: None)
    runner.throttle.own.set(0)
    async with trio.open_nursery() as nursery:
        runner.start(nursery)
        assert await runner.stop()
        assert runner.status.as_json()["reason"] == "user"
        runner.throttle.own.set(None)
        runner.limited()
        await _settled()
        assert not runner.running
        assert not await runner.stop()


async def test_a_limit_lifted_while_the_run_ends_starts_the_next_one() -> None:
    let_go = trio.Event()

    async def slow(life: Life) -> None:
        try:
            await _live(life)
        finally:
            with trio.CancelScope(shield=True):
                await let_go.wait()

    runner = RuleRunner("a", slow, lambda *line: None)
    async with trio.open_nursery() as nursery:
        runner.start(nursery)
        await _settled()
        runner.throttle.own.set(0)
        runner.limited()
        runner.throttle.own.set(None)
        runner.limited()
        await _settled()
        let_go.set()
        await _settled()
        assert (runner.running, runner.status.state) == (True, State.REPLICATING)
        await runner.stop()


async def test_what_a_fault_stopped_does_not_start_with_the_limit() -> None:
    async def fails(life: Life) -> None:
        raise StopRule("no space", code=Code.REPLICA_FULL, obj="/r/x")

    runner = RuleRunner("a", fails, lambda *line: None)
    async with trio.open_nursery() as nursery:
        runner.start(nursery)
        await _settled()
        for bps in (0, None):
            runner.throttle.own.set(bps)
            runner.limited()
            await _settled()
        assert not runner.running
    status = runner.status.as_json()
    assert (status["reason"], status["code"], status["object"]) == ("fault", Code.REPLICA_FULL, "/r/x")
