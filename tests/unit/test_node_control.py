"""The control API and its client over a real socket: what `i2 rule` sees of a daemon."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import attrs
import click
import httpx
import pytest
import trio
import trio.testing

from i2core.api import Code, I2Error, StopRule, UsageError
from i2core.cli.main import run
from i2core.config.model import BackupRole, NodeConfig, Pair, Rule
from i2core.node.control import client as client_module
from i2core.node.control.client import ControlClient, control_client
from i2core.node.control.socket_path import SOCKET, short_path
from i2core.node.daemon import control_api as control_module
from i2core.node.daemon.control_api import serve_control
from i2core.node.daemon.rule_runner import RuleRunner
from i2core.node.daemon.running import RunningNode
from i2core.node.logs.logbook import Logbook
from i2core.node.pairing.identity import Identity
from i2core.registry import Registry
from i2core.rule.life.life import Life
from i2core.rule.life.report import Line
from i2core.rule.life.status import Received, State

RULE = "data/1 ü"
"""A name that needs quoting in a URL."""


class FakeBackup:
    """A backup role with one received rule whose delete is held."""

    def __init__(self) -> None:
        self.held = True
        self.handed_over: tuple[str, str | None, str, str] | None = None

    def statuses(self) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(
                name="received",
                peer="web1",
                applied_seq=7,
                durable_seq=5,
                applied_records=7,
                applied_bytes=100,
                state=Received.HELD if self.held else Received.RECEIVING,
                held=self.held,
                held_reason="900 of 1000 files" if self.held else "",
                turned_back="",
                fault=None,
                orphans=2,
                history=None,
            )
        ]

    async def release(self, rule: str, peer: str | None = None) -> bool:
        held, self.held = self.held, False
        return held

    async def hand_over(self, rule: str, peer: str | None, heir: str, heir_rule: str) -> bool:
        self.handed_over = (rule, peer, heir, heir_rule)
        return rule == "received"


async def _replicate(life: Life) -> None:
    status = life.status
    status.state, status.capture, status.seq = State.REPLICATING, "fanotify", 12
    await trio.sleep_forever()


@asynccontextmanager
async def _node(state_dir: Path) -> AsyncIterator[RunningNode]:
    state_dir.mkdir(parents=True, exist_ok=True)
    rule = Rule(name=RULE, backup="bak1", pairs=(Pair(source=b"/s", target=b"/t"),))
    config = NodeConfig(path=Path("n.toml"), name="web1", state_dir=state_dir, rules=(rule,))
    identity = cast(Identity, SimpleNamespace(fingerprint="sha256:00"))
    registry = cast(Registry, SimpleNamespace(problems=()))
    async with trio.open_nursery() as nursery:
        node = RunningNode(config, registry, Logbook(None), identity, nursery)
        node.runners[RULE] = RuleRunner(RULE, _replicate, lambda *line: None)
        node.backup = cast(Any, FakeBackup())
        await nursery.start(serve_control, node, state_dir)
        yield node
        nursery.cancel_scope.cancel()


async def _ask(state_dir: Path, question: Callable[[ControlClient], Any]) -> Any:
    def ask() -> Any:
        with control_client(state_dir) as client:
            return question(client)

    return await trio.to_thread.run_sync(ask)


async def test_rules_sent_and_received_have_the_promised_keys(tmp_path: Path) -> None:
    async with _node(tmp_path):
        sent, received = await _ask(tmp_path, lambda client: client.rules())
    promised = {"name", "state", "percent", "code", "seq", "durable_seq", "lag_seconds", "lag_bytes", "spool_bytes"}
    assert promised | {"capture", "held", "role"} <= set(sent)
    assert promised | {"capture", "held", "role"} <= set(received)
    assert (sent["name"], sent["role"], sent["state"]) == (RULE, "work", "stopped")
    assert (received["role"], received["state"], received["code"], received["seq"]) == ("backup", "held", 3603, 7)


async def test_start_stop_release(tmp_path: Path) -> None:
    async with _node(tmp_path) as node:
        assert await _ask(tmp_path, lambda client: client.act(RULE, "start"))
        assert not await _ask(tmp_path, lambda client: client.act(RULE, "start"))
        assert node.runners[RULE].running
        assert await _ask(tmp_path, lambda client: client.act(RULE, "stop"))
        assert not await _ask(tmp_path, lambda client: client.act(RULE, "stop"))
        assert await _ask(tmp_path, lambda client: client.act("received", "release"))
        assert not await _ask(tmp_path, lambda client: client.act("received", "release"))


async def test_targets_are_handed_over_to_who_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("--state-dir", str(tmp_path))
    async with _node(tmp_path) as node:
        node.config = attrs.evolve(node.config, backup=BackupRole(allow_roots=(b"/replicas",)))
        assert await _i2("rule", "hand-over", "web1/received", "--to", "web2", *place) == 2
        assert "web2" in capsys.readouterr().err
        node.config = attrs.evolve(node.config, backup=BackupRole(allow_roots=(b"/replicas",), plaintext=True))
        assert await _i2("rule", "hand-over", "web1/received", "--to", "web2", *place) == 0
        assert "web2/received may take over" in capsys.readouterr().out
        assert cast(FakeBackup, node.backup).handed_over == ("received", "web1", "web2", "received")
        assert await _i2("rule", "hand-over", "received", "--to", "web2/other", "--json", *place) == 0
        assert json.loads(capsys.readouterr().out) == {"name": "received", "action": "hand-over", "done": True}
        assert cast(FakeBackup, node.backup).handed_over == ("received", None, "web2", "other")
        assert await _i2("rule", "hand-over", "unknown", "--to", "web2", *place) == 0
        assert "never received" in capsys.readouterr().out


async def test_a_start_that_compares_ends_the_run_under_way(tmp_path: Path) -> None:
    async with _node(tmp_path) as node:
        runner, runs = node.runners[RULE], list[bool]()

        async def replicate(life: Life) -> None:
            runs.append(runner.take_compare())
            await _replicate(life)

        runner.run = replicate
        assert await _ask(tmp_path, lambda client: client.act(RULE, "start"))
        assert await _ask(tmp_path, lambda client: client.act(RULE, "start", compare=True))
        assert await _ask(tmp_path, lambda client: client.act(RULE, "stop"))
        assert await _ask(tmp_path, lambda client: client.act(RULE, "start"))
        assert runs == [False, True, False]


async def test_tasks_are_shown_and_cancelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def for_ever(show: Callable[[Mapping[str, Any]], None]) -> NoReturn:
        show({"files": 3})
        await trio.sleep_forever()

    async def short(show: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {"equal": True}

    place = ("--state-dir", str(tmp_path))
    async with _node(tmp_path) as node:
        assert await _i2("task", "list", *place) == 0
        assert "no tasks" in capsys.readouterr().out
        await node.tasks.begin(node.nursery, "recovery", RULE, {"to": "/x"}, for_ever)
        await node.tasks.begin(node.nursery, "recovery", "other", {}, short)
        assert await _i2("task", "show", "2", "--wait", *place) == 0
        assert "equal True" in capsys.readouterr().out
        assert await _i2("task", "list", "--json", *place) == 0
        found = json.loads(capsys.readouterr().out)
        assert [(task["ident"], task["state"], task["progress"]) for task in found] == [
            (1, "running", {"files": 3}),
            (2, "done", {}),
        ]
        assert await _i2("task", "cancel", "1", *place) == 0
        assert await _i2("task", "show", "1", "--wait", *place) == 1
        assert "cancelled" in capsys.readouterr().out
        assert await _i2("task", "cancel", "2", *place) == 0
        assert "has ended already" in capsys.readouterr().out
        assert await _i2("task", "show", "3", *place) == 2
        assert "no such task" in capsys.readouterr().err


async def test_who_receives_a_rule_does_not_run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2_LANG", "en")
    async with _node(tmp_path):
        with pytest.raises(UsageError) as start:
            await _ask(tmp_path, lambda client: client.act("received", "start"))
        with pytest.raises(UsageError) as stop:
            await _ask(tmp_path, lambda client: client.act("received", "stop"))
    assert (start.value.next_step, stop.value.next_step) == ("run the command on web1",) * 2


async def test_errors_come_back_as_they_were_raised(tmp_path: Path) -> None:
    async with _node(tmp_path):
        with pytest.raises(UsageError) as unknown:
            await _ask(tmp_path, lambda client: client.act("no such rule", "stop"))
        with pytest.raises(UsageError, match="bak1"):
            await _ask(tmp_path, lambda client: client.act(RULE, "release"))
    assert (unknown.value.code, unknown.value.obj) == (Code.RULE_UNKNOWN, "no such rule")


async def test_a_broken_handler_answers_with_an_error_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: FakeBackup) -> list[SimpleNamespace]:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(FakeBackup, "statuses", broken)
    async with _node(tmp_path):
        with pytest.raises(I2Error, match="ours") as failed:
            await _ask(tmp_path, lambda client: client.rules())
        assert failed.value.code is Code.INTERNAL


async def test_status_tells_who_the_node_is(tmp_path: Path) -> None:
    async with _node(tmp_path):
        status = await _ask(tmp_path, lambda client: client.status())
    assert (status["name"], status["fingerprint"], status["pid"]) == ("web1", "sha256:00", os.getpid())


async def test_the_socket_is_the_owners_alone_and_goes_with_the_daemon(tmp_path: Path) -> None:
    async with _node(tmp_path):
        assert stat.S_IMODE((tmp_path / SOCKET).stat().st_mode) == 0o600
    assert not (tmp_path / SOCKET).exists()


async def test_a_socket_left_by_a_killed_daemon_is_replaced(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    with short_path(tmp_path) as directory:
        left.bind(f"{directory}/{SOCKET}")
    left.close()
    async with _node(tmp_path):
        assert await _ask(tmp_path, lambda client: client.rules())


async def test_a_path_longer_than_a_socket_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    async with _node(deep):
        assert await _ask(deep, lambda client: client.rules())


async def test_unknown_addresses_and_methods_are_refused(tmp_path: Path) -> None:
    def ask() -> list[int]:
        with short_path(tmp_path) as directory:
            transport = httpx.HTTPTransport(uds=f"{directory}/{SOCKET}")
            with httpx.Client(transport=transport, base_url="http://i2") as http:
                return [http.get("/v1/other").status_code, http.get(f"/v1/rules/{RULE}/stop").status_code]

    async with _node(tmp_path):
        assert await trio.to_thread.run_sync(ask) == [404, 405]


async def _i2(*arguments: str) -> int:
    return await trio.to_thread.run_sync(run, arguments)


async def test_rule_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("I2_LANG", "en")
    place = ["--state-dir", str(tmp_path)]
    async with _node(tmp_path) as node:
        assert await _i2("rule", "start", RULE, *place) == 0
        assert "started" in capsys.readouterr().out
        assert await _i2("rule", "start", RULE, *place) == 0
        assert "runs already (replicating)" in capsys.readouterr().out
        assert await _i2("rule", "status", *place) == 3, "a delete is held"
        table = capsys.readouterr().out
        assert RULE in table
        assert "fanotify" in table
        assert await _i2("rule", "status", RULE, "--json", *place) == 0
        (status,) = json.loads(capsys.readouterr().out)
        assert (status["state"], status["seq"]) == ("replicating", 12)
        assert await _i2("rule", "list", "--json", *place) == 0
        listed = json.loads(capsys.readouterr().out)
        assert [(item["name"], item["bandwidth_bps"]) for item in listed] == [(RULE, None), ("received", None)]
        node.runners[RULE].throttle.own.set(2_000_000)
        node.runners[RULE].limited()
        assert await _i2("rule", "list", *place) == 0
        assert "2Mbps" in capsys.readouterr().out
        node.runners[RULE].throttle.own.set(0)
        node.runners[RULE].limited()
        await trio.testing.wait_all_tasks_blocked()
        assert await _i2("rule", "start", RULE, *place) == 0
        assert "starts by itself" in capsys.readouterr().out
        assert await _i2("rule", "status", "nobody", *place) == 2
        assert await _i2("rule", "stop", "nobody", *place) == 2
        assert await _i2("rule", "release", "received", *place) == 0
        assert "released" in capsys.readouterr().out
        assert await _i2("rule", "release", "received", "--json", *place) == 0
        assert json.loads(capsys.readouterr().out) == {"name": "received", "action": "release", "done": False}


async def test_errors_of_the_daemon_are_said_in_the_language_of_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for daemons, mine, cause in (("en", 1, "此处没有该名称的规则"), ("zh", 0, "no rule of this name here")):
        monkeypatch.setenv("I2_LANG", daemons)
        monkeypatch.setattr(client_module, "bilingual", lambda *both, mine=mine: both[mine])
        async with _node(tmp_path):
            with pytest.raises(UsageError) as unknown:
                await _ask(tmp_path, lambda client: client.act("no such rule", "stop"))
        assert unknown.value.cause == cause


@pytest.mark.parametrize("where", ["directory", "socket"])
def test_another_user_is_told_whose_daemon_it_is(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied")

    def refuse(*_: object) -> NoReturn:
        raise denied

    if where == "directory":
        monkeypatch.setattr(client_module, "short_path", refuse)
    else:
        monkeypatch.setattr(socket.socket, "connect", refuse)
    assert run(["rule", "status", "--state-dir", str(tmp_path)]) == 2
    assert "sudo" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["", "missing"])
def test_no_daemon_is_one_clear_error(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rule", "status", "--state-dir", str(tmp_path / place)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "i2 node run" in line


def test_an_error_of_whoever_uses_the_client_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), control_client(tmp_path):
        raise BrokenPipeError


# ------------------------------------------------------------------------------------------ watching


async def test_a_follower_gets_what_comes_behind_its_cursor(tmp_path: Path) -> None:
    async with _node(tmp_path) as node:
        node.logbook.say("", None, "before")
        page = await _ask(tmp_path, lambda client: client.events())
        assert [event["line"] for event in page["events"]] == ["before"]
        pages = []

        async def follow() -> None:
            pages.append(await _ask(tmp_path, lambda client: client.events(page["cursor"], wait_s=20, rule="b")))

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow)
                await trio.testing.wait_all_tasks_blocked(0.01)
                node.logbook.say("a", None, "of another rule")
                node.logbook.say("b", Code.REPLICA_FULL, Line("name \udcff", obj="/b/\udcff", cause="full"))
    (event,) = pages[0]["events"]
    assert (event["line"], event["object"], event["code"]) == ("name \udcff", "/b/\udcff", 3606)
    assert (pages[0]["newest"], pages[0]["oldest"], pages[0]["lost"]) == (event["cursor"], page["oldest"], False)


@pytest.mark.parametrize("question", ["after=-1", "after=x", "wait=61", "limit=0", "limit=1001", "after=" + "9" * 5000])
async def test_a_question_that_makes_no_sense(tmp_path: Path, question: str) -> None:
    async with _node(tmp_path):
        answer = await _get(tmp_path, f"/v1/events?{question}")
    assert (answer.status_code, answer.json()["code"]) == (409, Code.USAGE)
    assert answer.json()["object"] == question.partition("=")[0]


async def test_status_and_metrics_say_the_same(tmp_path: Path) -> None:
    async with _node(tmp_path) as node:
        node.runners[RULE].status.note(StopRule("no \udcff", code=Code.REPLICA_FULL, obj="/b/\udcff"))
        node.objectives.set([attrs.evolve(node.config.rules[0], rpo_s=30.0)])
        sent, received = await _ask(tmp_path, lambda client: client.rules())
        answer = await _get(tmp_path, "/metrics")
    assert (sent["code"], sent["object"], sent["cause"]) == (3606, "/b/\udcff", "no \udcff")
    assert (sent["next_step"], sent["next_step_zh"]) == ("free space, then start the rule", "释放空间后启动规则")
    assert (sent["rpo_seconds"], sent["rpo_broken"], sent["peer"]) == (30.0, False, "bak1")
    assert (received["object"], received["cause"]) == ("received", "900 of 1000 files")
    assert received["next_step_zh"].startswith("若确属本意，请执行 i2 rule release web1/received；")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.text.splitlines()
    assert f'i2_rule_code{{rule="{RULE}",role="work",peer="bak1"}} 3606' in lines
    assert 'i2_rule_durable_seq{rule="received",role="backup",peer="web1"} 5' in lines


async def _get(state_dir: Path, path: str) -> httpx.Response:
    def ask() -> httpx.Response:
        with short_path(state_dir) as directory:
            transport = httpx.HTTPTransport(uds=f"{directory}/{SOCKET}")
            with httpx.Client(transport=transport, base_url="http://i2") as http:
                return http.get(path)

    return await trio.to_thread.run_sync(ask)


async def test_the_log_command_follows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("I2_LANG", "en")
    shown: list[str] = []

    async with _node(tmp_path) as node:
        node.logbook.say("a", None, "before")

        def echo(line: str, *, err: bool = False) -> None:
            if not err:
                shown.append(line)
                raise KeyboardInterrupt

        monkeypatch.setattr(click, "echo", echo)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_i2, "node", "log", "--follow", "--json", "--state-dir", str(tmp_path))
            with trio.fail_after(10):
                while not shown:  # it follows from when it first asks
                    node.logbook.say("a", None, "behind")
                    await trio.sleep(0.05)
    assert json.loads(shown[0])["line"] == "behind"


async def test_a_control_server_that_fails_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_module, "RESTART_S", 0.0)
    serve, failures = trio.serve_listeners, iter([OSError(errno.EIO, "broken"), RuntimeError("ours")])

    async def failing(*arguments: Any, **options: Any) -> None:
        error = next(failures, None)
        if error is not None:
            raise error
        await serve(*arguments, **options)

    monkeypatch.setattr(trio, "serve_listeners", failing)
    async with _node(tmp_path) as node:
        await _until_asked(tmp_path)
        assert node.runners[RULE].start(node.nursery), "the rules are as they were"
        said = [line["line"] for line in (await node.logbook.events(0)).as_json()["events"]]
        assert sum("the control API failed" in line for line in said) == 2


async def _until_asked(state_dir: Path) -> None:
    with trio.fail_after(10):
        while True:
            with contextlib.suppress(I2Error):
                await _ask(state_dir, lambda client: client.status())
                return


async def test_a_question_that_breaks_off_ends_nothing(tmp_path: Path) -> None:
    async with _node(tmp_path):
        with short_path(tmp_path) as directory:
            for _ in range(3):
                async with await trio.open_unix_socket(f"{directory}/{SOCKET}") as half:
                    await half.send_all(b"POST /v1/rules/x/stop HTTP/1.1\r\nHost: i2\r\nContent-Length: 9\r\n\r\nab")
                    await half.send_eof()
                    await half.receive_some()
        assert await _ask(tmp_path, lambda client: client.rules())
