"""What a mirror sends to a scripted replica, and in which order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from i2core.api import Kind, LinkError, Place
from i2core.rule.mirror.making_room import make_room
from i2core.rule.mirror.mirror import mirror
from i2core.rule.survey.findings import Why
from i2core.wire import message_size
from i2core.wire.frame import FrameType
from i2core.wire.listing import Verdict
from i2core.wire.questions import OrphanList

from .bringing import ALL, ScriptedReplica, SourceSide

LARGE = 5 << 20


@pytest.fixture
def side(tmp_path: Path) -> Iterator[SourceSide]:
    made = SourceSide(tmp_path / "source")
    yield made
    made.close()


def order(replica: ScriptedReplica, *wanted: tuple[Kind, bytes]) -> list[int]:
    """The positions of these among everything that was sent."""
    sent = [(record.kind, record.path) for record in replica.sent]
    return [sent.index(each) for each in wanted]


async def test_a_large_file_is_sent_after_earlier_records_and_before_its_directory(side: SourceSide) -> None:
    (side.path / "d").mkdir()
    (side.path / "d" / "small").write_bytes(b"content")
    (side.path / "d" / "big").write_bytes(os.urandom(LARGE))
    replica = ScriptedReplica()
    replica.verdicts, replica.missing = {b"d": Verdict.WHOLE}, {b"d"}
    await mirror(side.source, replica, [ALL], strict=False)
    steps = [(Kind.MKDIR, b"d"), (Kind.STAGE, b"d/big"), (Kind.PUBLISH, b"d/big")]
    found = order(replica, *steps)
    assert found == sorted(found)
    assert (Kind.CREATE, b"d/small") in replica.kinds()
    # Set last: each name that was made changed its times.
    last = replica.sent[-1]
    assert (last.kind, last.path) == (Kind.SETATTR, b"d")
    assert side.source.status.sent_files == 2


async def test_a_large_file_that_is_removed_before_it_is_sent(side: SourceSide) -> None:
    """The replica may have an object under its name, which counted as the file until now."""
    (side.path / "big").write_bytes(os.urandom(LARGE))
    replica = ScriptedReplica()
    replica.verdicts = {b"big": Verdict.BLOCKS}
    replica.before[FrameType.SURVEY] = (side.path / "big").unlink
    await mirror(side.source, replica, [ALL], strict=False)
    assert replica.kinds() == []
    assert replica.orphans == [OrphanList(0, b"", [b"big"])]


async def test_orphans_are_sent_after_earlier_records(side: SourceSide) -> None:
    (side.path / "f").write_bytes(b"content")
    replica = ScriptedReplica()
    replica.verdicts, replica.extra = {b"f": Verdict.WHOLE}, {b"": [b"x"]}
    sent: list[int] = []
    replica.before[FrameType.ORPHANS] = lambda: sent.append(len(replica.sent))
    await mirror(side.source, replica, [ALL], strict=False)
    assert replica.orphans == [OrphanList(0, b"", [b"x"])]
    assert sent == [1]


async def test_all_pages_of_names_are_looked_through(side: SourceSide) -> None:
    (side.path / "kept").touch()
    (side.path / "gone").touch()
    side.sent(b"", b"gone")
    (side.path / "gone").unlink()
    replica = ScriptedReplica()
    replica.pages = {b"": [[b"kept", b"x"], [b"y"]]}
    await mirror(side.source, replica, [ALL], strict=False)
    assert [each.names for each in replica.orphans] == [[b"x"], [b"y"]]
    assert side.catalog.objects.get(Place(0, b"gone")) is None, "the replica has it as little as the source"


async def test_a_directory_that_was_created_meanwhile_is_sent_as_well(side: SourceSide) -> None:
    """The replica had an object of that name, and what is beneath it is unknown."""
    replica = ScriptedReplica()
    replica.extra = {b"": [b"d"], b"d": [b"x"]}

    def come() -> None:
        (side.path / "d").mkdir()
        (side.path / "d" / "f").touch()

    replica.before[FrameType.SURVEY] = come
    findings = await mirror(side.source, replica, [ALL], strict=False)
    assert replica.asked == [b"", b"d"]
    assert replica.orphans == [OrphanList(0, b"d", [b"x"])]
    assert list(findings.places(Why.APPEARED)) == [Place(0, b"d")]


async def test_batches_are_as_large_as_a_message_may_be(side: SourceSide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_size, "BATCH_RECORDS", 10)
    for number in range(35):
        (side.path / f"{number:02}").touch()
    replica = ScriptedReplica()
    replica.missing = {b""}
    await mirror(side.source, replica, [ALL], strict=False)
    assert replica.batches == [10, 10, 10, 6]


@pytest.mark.parametrize("kind", [Kind.CREATE, Kind.PUBLISH])
async def test_a_link_that_breaks_leaves_nothing_open(side: SourceSide, kind: Kind) -> None:
    (side.path / "f").write_bytes(b"content")
    (side.path / "big").write_bytes(os.urandom(LARGE))
    replica = ScriptedReplica()
    replica.missing, replica.cut_at = {b""}, kind
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(LinkError, match="cut"):
        await mirror(side.source, replica, [ALL], strict=False)
    assert sorted(os.listdir("/proc/self/fd")) == before


class TestMakingRoom:
    """The replica's disk is full: no record is sent that takes space."""

    async def test_names_that_the_source_lacks_are_removed(self, side: SourceSide) -> None:
        (side.path / "d").mkdir()
        (side.path / "d" / "came").touch()
        replica = ScriptedReplica()
        replica.extra, replica.pages = {b"": [b"x"]}, {b"d": [[b"y"], [b"came", b"z"]]}
        await make_room(side.source, replica, [ALL])
        assert replica.orphans == [OrphanList(0, b"", [b"x"]), OrphanList(0, b"d", [b"y"]), OrphanList(0, b"d", [b"z"])]
        assert replica.sent == []

    async def test_files_that_are_shorter_on_the_source_are_truncated(self, side: SourceSide) -> None:
        for name in ("shorter", "differs", "lacks"):
            (side.path / name).write_bytes(b"content")
        replica = ScriptedReplica()
        replica.verdicts = {b"shorter": Verdict.BLOCKS, b"differs": Verdict.BLOCKS, b"lacks": Verdict.WHOLE}
        replica.longer = {b"shorter"}
        await make_room(side.source, replica, [ALL])
        assert [(record.kind, record.path, record.size) for record in replica.sent] == [(Kind.TRUNCATE, b"shorter", 7)]

    async def test_nothing_is_noted_since_the_mirror_compares_it_again(self, side: SourceSide) -> None:
        (side.path / "f").touch()
        await make_room(side.source, ScriptedReplica(), [ALL])
        assert side.catalog.objects.get(Place(0, b"")) is None
