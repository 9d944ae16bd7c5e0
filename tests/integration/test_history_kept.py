"""The past of a replica is given up as promised, by the task of the backup role; on a full disk as the config says."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
from i2_store_cdp.plugin import i2_journals

from i2core.api import Code, StopRule
from i2core.config.model import Brake, CdpRetention, HistoryTerms, WhenHistoryFull
from i2core.history.record.clock import Reading
from i2core.history.retention.giving_up import GivingUp
from i2core.history.retention.pins import MomentGone
from i2core.rule.backup.entry import histories, passes
from tests.pictures import past_picture

from .pair import Nodes, open_nodes, until
from .with_history import changed, settled

DAY_S = 86400
ONE_DAY = CdpRetention(detailed_days=1, daily=0, monthly=0)


class Clocks:
    """The clocks of the backup node, `ahead_s` of those of this host."""

    def __init__(self) -> None:
        self.ahead_s = 0

    def __call__(self) -> Reading:
        ahead_ns = self.ahead_s * 10**9
        return Reading(time.time_ns() + ahead_ns, b"boot", time.monotonic_ns() + ahead_ns)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(histories, "_clocks", made)
    return made


async def _content(nodes: Nodes, seq: int) -> bytes:
    async with nodes.service.history("data1") as history:
        with history.pins.pin(seq):
            found = await trio.to_thread.run_sync(past_picture, history.tree(0, seq))
    content: bytes = found["file"][2]
    return content


async def test_a_pass_gives_up_what_is_over_without_a_session(tmp_path: Path, clocks: Clocks) -> None:
    async with open_nodes(tmp_path, *i2_journals()) as nodes:
        (nodes.source / "file").write_text("first")
        rule = nodes.rule(cdp=ONE_DAY, brake=Brake(share=1.0))
        async with nodes.running(rule) as status:
            await settled(nodes, status)
            second = await changed(nodes, status, b"second")
            third = await changed(nodes, status, b"third")
            await nodes.service.passes.run_once()
            assert [await _content(nodes, seq) for seq in (second, third)] == [b"second", b"third"]
        nodes.boot()
        clocks.ahead_s = 3 * DAY_S
        async with nodes.service.history("data1") as history:
            with history.pins.pin(second):
                await nodes.service.passes.run_once()
                found = await trio.to_thread.run_sync(past_picture, history.tree(0, second))
            assert found["file"][2] == b"second"
        nodes.boot()
        await nodes.service.passes.run_once()
        assert await _content(nodes, third) == b"third"
        with pytest.raises(MomentGone):
            await _content(nodes, second)
        assert not {Code.INTERNAL, Code.CDP_INDEX_WRITE, Code.CDP_DATA_WRITE} & set(nodes.codes())


async def test_a_pass_that_fails_is_told_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "FIRST_S", 0.0)
    async with open_nodes(tmp_path, *i2_journals()) as nodes:
        (nodes.source / "file").write_text("first")
        async with nodes.running(nodes.rule(cdp=ONE_DAY, brake=Brake(share=1.0))) as status:
            await settled(nodes, status)
            await changed(nodes, status, b"second")
        cdp = nodes.home / "state" / "cdp"
        cdp.rename(nodes.home / "away")
        nodes.boot()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nodes.service.passes.run)
            await until(lambda: Code.CDP_DESCRIPTION_READ in nodes.codes())
            nursery.cancel_scope.cancel()
        assert nodes.service.passes.due_in_s(("local", "data1")) > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(path)], check=True)  # noqa: S603, S607
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)  # noqa: S603, S607


def _keeps_on(nodes: Nodes, disk: Path, when_full: WhenHistoryFull) -> None:
    nodes.role = attrs.evolve(nodes.role, cdp_dir=os.fsencode(disk), cdp=HistoryTerms(when_full=when_full))
    nodes.boot()


@pytest.mark.root
async def test_a_full_disk_takes_the_oldest(tmp_path: Path, small_disk: Path) -> None:
    async with open_nodes(tmp_path, *i2_journals()) as nodes:
        _keeps_on(nodes, small_disk, WhenHistoryFull.SHORTEN)
        (nodes.source / "file").write_text("first")
        async with nodes.running(nodes.rule(cdp=CdpRetention(), brake=Brake(share=1.0))) as status:
            await settled(nodes, status)
            content = b""
            for _ in range(15):
                content = os.urandom(3 << 20)
                seq = await changed(nodes, status, content)
            assert await _content(nodes, seq) == content
            async with nodes.service.history("data1") as history:
                assert history.kept().floor > 0


@pytest.mark.root
async def test_a_full_disk_stops_the_rule_if_the_config_says_so(tmp_path: Path, small_disk: Path) -> None:
    async with open_nodes(tmp_path, *i2_journals()) as nodes:
        _keeps_on(nodes, small_disk, WhenHistoryFull.STOP)
        (nodes.source / "file").write_text("first")
        rule = nodes.rule(cdp=CdpRetention(), brake=Brake(share=1.0))
        with pytest.raises(StopRule) as stopped:
            async with nodes.running(rule) as status:
                await settled(nodes, status)
                for _ in range(15):
                    await changed(nodes, status, os.urandom(3 << 20))
        assert stopped.value.code is Code.CDP_DATA_WRITE
        assert stopped.value.next_step
        async with nodes.service.history("data1") as history:
            assert history.kept().floor == 0


async def test_a_session_that_opens_the_history_again_breaks_off_a_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Journal and index are closed then: nothing may be written there any more."""
    begun, ended = trio.Event(), trio.Event()

    async def without_end(giving_up: GivingUp) -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with open_nodes(tmp_path, *i2_journals()) as nodes:
        (nodes.source / "file").write_text("first")
        rule = nodes.rule(cdp=ONE_DAY, brake=Brake(share=1.0))
        async with nodes.running(rule) as status:
            await settled(nodes, status)
            await changed(nodes, status, b"second")
        with monkeypatch.context() as patch:
            patch.setattr(GivingUp, "drop_and_merge", without_end)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(nodes.service.passes.run_once)
                await begun.wait()
                async with nodes.running(rule, epoch=2) as status:
                    await settled(nodes, status)
                    third = await changed(nodes, status, b"third")
                    assert ended.is_set()
        assert await _content(nodes, third) == b"third"
        assert not {Code.INTERNAL, Code.OPEN_REPLICA} & set(nodes.codes())
        assert nodes.service.passes.due_in_s(("local", "data1")) <= passes.LOOK_S
