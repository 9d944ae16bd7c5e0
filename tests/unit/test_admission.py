"""What one peer may have open on a backup node, and which codecs it may request."""

from __future__ import annotations

import enum
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import attrs
import pytest
import trio
import trio.testing

from i2core.api import Code, DriverSpec, LinkError, StopRule
from i2core.config.model import DriverChoice
from i2core.config.options import named_to_peer
from i2core.drivers.select import Drivers
from i2core.registry import Registry
from i2core.rule.backup.entry import admission
from i2core.rule.backup.entry.admission import Admission
from i2core.rule.backup.entry.codecs import codecs_of
from i2core.wire.messages import BrakeLimits, CodecName, Hello, OrphanPolicy


def hello(rule: str = "data1", *, targets: int = 1, codecs: list[CodecName] | None = None) -> Hello:
    return Hello(
        version="0",
        rule=rule,
        channel="mirror",
        epoch=1,
        targets=[f"/t{number}" for number in range(targets)],
        codecs=codecs or [],
        orphans=OrphanPolicy(),
        brake=BrakeLimits(share=0.5, window_s=60, least=1000),
    )


def test_rules_of_a_peer_are_bounded_and_known_ones_are_accepted() -> None:
    gate = Admission()
    known = {f"r{number}" for number in range(admission.RULES)}
    with gate.session("a", hello("r1"), known):
        pass
    with pytest.raises(StopRule) as refused, gate.session("a", hello("new"), known):
        pass
    assert refused.value.code is Code.PEER_LIMIT
    with gate.session("b", hello("new"), set()):
        pass


def test_open_directories_of_a_peer_are_bounded_and_come_back() -> None:
    gate = Admission()
    most = admission.ROOTS // 1000
    with ExitStack() as stack:
        for number in range(most):
            stack.enter_context(gate.session("a", hello(f"r{number}", targets=1000), set()))
        with pytest.raises(StopRule) as refused, gate.session("a", hello("more"), set()):
            pass
        assert refused.value.code is Code.PEER_LIMIT
        with gate.session("b", hello("more"), set()):
            pass
    with gate.session("a", hello("more"), set()):
        pass


def test_sessions_of_a_rule_are_bounded() -> None:
    gate = Admission()
    with ExitStack() as stack:
        for _ in range(admission.SESSIONS):
            stack.enter_context(gate.session("a", hello(), set()))
        with pytest.raises(LinkError), gate.session("a", hello(), set()):
            pass
        with gate.session("a", hello("other"), set()):
            pass


async def test_too_many_connections_without_a_greeting_end_the_oldest_of_that_peer() -> None:
    gate = Admission()
    ended: list[int] = []

    async def wait(who: str, number: int) -> None:
        try:
            with gate.greeting(who):
                await trio.sleep_forever()
        except LinkError:
            ended.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "other", -1)
        for number in range(admission.GREETINGS + 2):
            nursery.start_soon(wait, "a", number)
            await trio.testing.wait_all_tasks_blocked()
        assert ended == [0, 1]
        nursery.cancel_scope.cancel()


class Pace(enum.Enum):
    SLOW = "slow"


@attrs.frozen(kw_only=True)
class Options:
    level: int = 1
    ratio: float | None = None
    pace: Pace = Pace.SLOW
    word: Literal["a", "b"] = "a"
    on: bool = False
    text: str = ""
    file: Path | None = None
    raw: bytes = b""
    names: tuple[str, ...] = ()


def test_numbers_flags_and_fixed_words_may_come_from_a_peer_and_nothing_else() -> None:
    spec = cast(DriverSpec, SimpleNamespace(config=Options))
    assert named_to_peer(spec) == {"level", "ratio", "pace", "word", "on"}


@pytest.mark.parametrize("options", [{"key_file": "/etc/shadow"}, {"passphrase_file": "/x"}, {"passphrase": "x"}])
def test_a_peer_names_no_file_and_no_secret(options: dict[str, Any]) -> None:
    asked = hello(codecs=[CodecName(name="aesgcm", options=options)])
    with pytest.raises(StopRule) as refused:
        codecs_of(asked, {}, Registry.load())
    assert "/" not in refused.value.cause
    assert refused.value.code is Code.DECRYPT


def test_levels_come_from_the_peer_and_keys_from_this_node() -> None:
    registry: Drivers = Registry.load()
    key = DriverChoice(name="aesgcm", options={"key_file": "/etc/i2/key"})
    asked = hello(codecs=[CodecName(name="zstd", options={"level": "low"}), CodecName(name="aesgcm")])
    level = DriverChoice(name="zstd", options={"level": "low"})
    assert codecs_of(asked, {"data1": key}, registry) == (level, key)
    theirs = hello(codecs=[CodecName(name="aesgcm", options={"key_file": "/etc/shadow"})])
    assert codecs_of(theirs, {"data1": key}, registry) == (key,)
    with pytest.raises(StopRule, match="requires encryption"):
        codecs_of(hello(), {"data1": key}, registry)
