"""Edits of the config file while the node runs: their meaning, and how the node learns of them."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import attrs
import pytest
import trio

from i2core.api import Code
from i2core.config.load import load
from i2core.config.model import NodeConfig
from i2core.limits.throttle import RateLimit, Throttle
from i2core.node.daemon.reload import follow_config, judge
from i2core.node.daemon.rule_runner import RuleRunner
from i2core.node.daemon.running import RunningNode
from i2core.rule.life.life import Life
from i2core.rule.outgoing.spool import Budget, Quota
from i2core.testing.named import NamedDrivers

NODE = """
[node]
name = "web1"
[work]
memory_limit = "256MB"
[[work.peer]]
name = "bak"
address = "192.0.2.1"
fingerprint = "sha256:9b74c9897bac770ffc029102a200c5de2f1e0d3c4b5a69788796a5b4c3d2e1f0"
"""
RULE = """
[[rule]]
name = "data1"
backup = "bak"
paths = [{ source = "/etc", target = "/backup/etc" }]
"""
LIMIT = """
[[rule.bandwidth]]
limit = "2Mbps"
"""


def config(place: Path, text: str) -> NodeConfig:
    path = place / "node.toml"
    path.write_text(text)
    return load(path, NamedDrivers())


def test_changes_that_apply_at_once(tmp_path: Path) -> None:
    running = config(tmp_path, NODE + RULE)
    shared = LIMIT.replace("rule.", "work.")
    edited = config(tmp_path, NODE + shared + RULE + LIMIT)
    edit = judge(running, edited)
    assert edit.live == ("work.bandwidth", "data1: bandwidth")
    assert (dict(edit.restart), edit.node) == ({}, ())
    assert edit.config == edited


def test_changes_that_apply_when_the_rule_starts_again(tmp_path: Path) -> None:
    running = config(tmp_path, NODE + RULE)
    text = NODE.replace("256MB", "64MB").replace("[work]", '[work]\ncache_dir = "/var/cache/i2"')
    edited = config(tmp_path, text + RULE.replace("/etc", "/usr") + 'rescan = "2h"\nrpo = "30s"\n' + LIMIT)
    edit = judge(running, edited)
    assert set(edit.live) == {"work.memory_limit", "data1: bandwidth", "data1: rpo"}
    assert edit.restart == {"data1": ("work.cache_dir", "paths", "rescan")}
    assert edit.node == ()
    assert edit.config == edited


def test_changes_that_need_a_restart_of_the_node(tmp_path: Path) -> None:
    running = config(tmp_path, NODE + RULE + RULE.replace("data1", "old").replace("etc", "usr"))
    text = (NODE + RULE + RULE.replace("data1", "new").replace("etc", "opt")).replace("192.0.2.1", "192.0.2.2")
    edit = judge(running, config(tmp_path, text.replace("web1", "web2")))
    assert edit.node == ("name", "work.peer", "rule old", "rule new")
    assert edit.config == running


def test_a_role_that_comes_needs_a_restart(tmp_path: Path) -> None:
    running = config(tmp_path, NODE + RULE)
    edited = config(tmp_path, NODE + RULE + f'[backup]\nallow_roots = ["{tmp_path}/replicas"]\n')
    edit = judge(running, edited)
    assert (edit.node, edit.config) == (("backup",), running)


def test_no_change_has_no_effect(tmp_path: Path) -> None:
    running = config(tmp_path, NODE + RULE + LIMIT)
    edit = judge(running, config(tmp_path, NODE + RULE + LIMIT + "# a remark\n"))
    assert (edit.live, dict(edit.restart), edit.node) == ((), {}, ())


@attrs.define
class Site:
    """A node that follows its config file."""

    path: Path
    node: RunningNode
    said: list[tuple[str, Code | None, str]]

    @property
    def bps(self) -> int | None:
        """The rule's bandwidth limit."""
        return self.node.runners["data1"].throttle.bps

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until it holds.

        Raises:
            TooSlowError: it does not come to hold.
        """
        with trio.fail_after(20):
            while not condition():  # noqa: ASYNC110 (a file has no event)
                await trio.sleep(0.01)

    async def heard(self, code: Code | None, *words: str) -> str:
        """The first line with that code that has the words."""

        def find() -> list[str]:
            return [line for _, said, line in self.said if said is code and all(word in line for word in words)]

        await self.until(lambda: bool(find()))
        return find()[0]

    def replace(self, text: str) -> None:
        """Replaces the file like an editor: by renaming a new one."""
        fresh = self.path.with_name(".node.toml.new")
        fresh.write_text(text)
        fresh.replace(self.path)


async def _run(life: Life) -> None:
    await trio.sleep_forever()


@asynccontextmanager
async def following(place: Path) -> AsyncIterator[Site]:
    running = config(place, NODE + RULE)
    said: list[tuple[str, Code | None, str]] = []

    def say(name: str, code: Code | None, line: str) -> None:
        said.append((name, code, line))

    limit = RateLimit()
    runners = {"data1": RuleRunner("data1", _run, say, Throttle([limit]))}
    node = cast(
        RunningNode,
        SimpleNamespace(
            config=running,
            limit=limit,
            budget=Budget(memory=Quota(256_000_000)),
            runners=runners,
            logbook=SimpleNamespace(say=say),
            registry=NamedDrivers(),
        ),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_config, node)
        await trio.testing.wait_all_tasks_blocked(0.05)
        yield Site(running.path, node, said)
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2_LANG", "en")


async def test_an_edited_limit_is_in_force_within_moments(tmp_path: Path) -> None:
    async with following(tmp_path) as site:
        site.path.write_text(NODE + RULE + LIMIT)
        await site.until(lambda: site.bps == 2_000_000)
        site.replace(NODE + RULE + LIMIT.replace("2Mbps", "0"))
        await site.until(lambda: site.bps == 0)
        site.replace(NODE + RULE)
        await site.until(lambda: site.bps is None)
        assert await site.heard(None, "data1: bandwidth")
        site.replace((NODE + RULE).replace("256MB", "64MB"))
        await site.until(lambda: site.node.budget.memory.limit == 64_000_000)


async def test_a_broken_edit_is_reported_with_all_mistakes_and_changes_nothing(tmp_path: Path) -> None:
    async with following(tmp_path) as site:
        site.replace(NODE + RULE + LIMIT)
        await site.until(lambda: site.bps == 2_000_000)
        running = site.node.config
        site.replace((NODE + RULE + LIMIT).replace("2Mbps", "2MB").replace("256MB", "256").replace("web1", "web2"))
        line = await site.heard(Code.USAGE)
        assert "rule.bandwidth.limit" in line
        assert "work.memory_limit" in line
        assert site.node.config is running
        site.replace(NODE + RULE + LIMIT.replace("2Mbps", "3Mbps"))
        await site.until(lambda: site.bps == 3_000_000)


async def test_a_change_without_effect_yet_is_reported_with_the_next_step(tmp_path: Path) -> None:
    async with following(tmp_path) as site:
        site.replace((NODE + RULE).replace("192.0.2.1", "192.0.2.2") + 'rescan = "2h"\n')
        assert "i2 rule start data1" in await site.heard(None, "rescan")
        assert "work.peer" in await site.heard(None, "restart the node")


async def test_a_missing_file_is_reported_and_may_come_back(tmp_path: Path) -> None:
    async with following(tmp_path) as site:
        site.path.unlink()
        assert str(site.path) in await site.heard(Code.CONFIG_GONE)
        site.replace(NODE + RULE + LIMIT)
        await site.until(lambda: site.bps == 2_000_000)


async def test_a_signal_reloads_where_the_file_cannot_be_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> AsyncIterator[None]:
        raise OSError("No space left on device")

    monkeypatch.setattr("i2core.node.daemon.reload.awatch", refused)
    async with following(tmp_path) as site:
        assert "SIGHUP" in await site.heard(Code.USAGE)
        site.path.write_text(NODE + RULE + LIMIT)
        os.kill(os.getpid(), signal.SIGHUP)
        await site.until(lambda: site.bps == 2_000_000)
