"""Records of a rule that wants a history arrive with their times, which never go back; others have none."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from i2core.api import Change, Channel, Code, Op, Place, Record
from i2core.api.records import Buffer
from i2core.config.model import CdpRetention
from i2core.rule.backup.session import batches
from i2core.rule.outgoing import record_clock
from i2core.rule.outgoing.ledger import Doubts
from i2core.rule.outgoing.outgoing import Outgoing
from i2core.wire.batch import EncodedBatch
from i2core.wire.encoding import decode_records

from .pair import Nodes, open_nodes, until

HOUR_NS = 3600 * 10**9


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """The records that the backup node has received, in order."""
    found: list[Record] = []

    def decode(payload: Buffer) -> list[Record]:
        records = decode_records(payload)
        found.extend(records)
        return records

    monkeypatch.setattr(batches, "decode_records", decode)
    return found


class Wall:
    """The system clock, as somebody may set it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.off_ns = 0
        strftime, localtime = time.strftime, time.localtime
        clock = SimpleNamespace(time_ns=lambda: time.time_ns() + self.off_ns, strftime=strftime, localtime=localtime)
        patch.setattr(record_clock, "time", clock)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    return Wall(monkeypatch)


def fill(nodes: Nodes) -> None:
    (nodes.source / "dir").mkdir()
    for index in range(20):
        (nodes.source / "dir" / f"{index}").write_text(f"{index}")
    (nodes.source / "large").write_bytes(os.urandom(5 << 20))


async def test_times_of_a_mirror_and_of_live_changes(tmp_path: Path, arrived: list[Record]) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        begun = time.time_ns()
        async with nodes.running(nodes.rule(cdp=CdpRetention())):
            assert len(arrived) > 20
            (nodes.source / "new").write_text("new")
            written = time.time_ns()
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"new")))
            await until((nodes.target / "new").exists)
        found = [record.time_ns for record in arrived]
        assert found == sorted(found)
        assert begun <= found[0]
        assert min(_times(arrived, b"new")) >= written, "the state at this time has content that was written later"
        assert found[-1] <= time.time_ns()


async def test_records_of_other_rules_have_no_times(tmp_path: Path, arrived: list[Record]) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        await nodes.run()
        assert {record.time_ns for record in arrived} == {0}


async def test_times_do_not_go_back_with_the_clock(tmp_path: Path, arrived: list[Record], wall: Wall) -> None:
    """Neither while the rule runs, nor at its next start."""
    async with open_nodes(tmp_path) as nodes:
        rule = nodes.rule(cdp=CdpRetention())
        async with nodes.running(rule):
            wall.off_ns = HOUR_NS
            (nodes.source / "ahead").write_text("ahead")
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"ahead")))
            await until((nodes.target / "ahead").exists)
            wall.off_ns = 0
            (nodes.source / "back").write_text("back")
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"back")))
            await until((nodes.target / "back").exists)
        assert nodes.codes().count(Code.TIME_STAMP) == 1
        (nodes.source / "next").write_text("next")
        await nodes.run(rule)
        assert (nodes.target / "next").exists()
        found = [record.time_ns for record in arrived]
        assert found == sorted(found)
        assert found[-1] > time.time_ns() + HOUR_NS // 2


async def test_what_waited_on_disk_has_the_times_at_which_it_was_read(
    tmp_path: Path, arrived: list[Record], wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Record] = []
    real = Outgoing.keep

    def keep(self: Outgoing, batch: EncodedBatch, since_ns: int, doubts: Doubts) -> None:
        real(self, batch, since_ns, doubts)
        kept.extend(decode_records(batch.raw))

    monkeypatch.setattr(Outgoing, "keep", keep)
    async with open_nodes(tmp_path) as nodes:
        rule = nodes.rule(cdp=CdpRetention())
        nodes.cache_dir = tmp_path / "cache"
        async with nodes.running(rule):
            # From its first live record on the backup node relies on the replica; before, all would be compared again.
            (nodes.source / "live").write_text("live")
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"live")))
            await until((nodes.target / "live").exists)
            ports = dict(nodes.ports)
            nodes.ports.update(dict.fromkeys(Channel, 1))  # nobody listens there
            nodes.wire.net.cut()
            await until(lambda: Code.NETWORK in nodes.codes())
            (nodes.source / "waits").write_text("waits")
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"waits")))
            await until(lambda: bool(_times(kept, b"waits")))
            first, *_ = _times(kept, b"waits")
            assert not _times(arrived, b"waits")
        nodes.ports.update(ports)
        wall.off_ns = HOUR_NS
        async with nodes.running(rule):
            await until((nodes.target / "waits").exists)
        # A file that had just been written may be read again at a start, and sent once more.
        assert _times(arrived, b"waits")[0] == first < time.time_ns()


def _times(records: list[Record], path: bytes) -> list[int]:
    return [record.time_ns for record in records if record.path == path]
