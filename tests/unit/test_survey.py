"""A survey asks for differences and changes nothing; places that it cannot resolve become findings with their
reason."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio

from i2core.api import Code, Filter, Place, ProtocolError, StopRule
from i2core.api.tree import OpenDirectory
from i2core.config.model import OnError
from i2core.posix.tree import LocalTree
from i2core.rule.survey import findings as findings_module
from i2core.rule.survey import lister as lister_module
from i2core.rule.survey.findings import Why
from i2core.rule.survey.lister import Scope
from i2core.rule.survey.survey import FRAMES_AHEAD, Survey, ask_about
from i2core.wire.frame import FrameType
from i2core.wire.listing import ChunkVerdicts, ReceivedChunk, Verdict

from .bringing import ALL, TOP, ScriptedReplica, SourceSide


@pytest.fixture
def side(tmp_path: Path) -> Iterator[SourceSide]:
    made = SourceSide(tmp_path / "source")
    yield made
    made.close()


def at(name: bytes) -> Place:
    return Place(0, name)


async def verdicts_of(side: SourceSide, replica: ScriptedReplica, *scopes: Scope) -> dict[bytes, int]:
    """All verdicts of a survey, by path."""
    survey = Survey(side.source, replica, side.findings, strict=False)
    found: dict[bytes, int] = {}
    async with survey.frames(scopes or [ALL]) as frames:
        async for frame in frames:
            for chunk, answer in zip(frame.chunks, await frame.verdicts(), strict=True):
                place = Place(chunk.root, chunk.path)
                found |= {place.child(e.name).path: v for e, v in zip(chunk.entries, answer.verdicts, strict=True)}
                found |= {place.child(name).path: -1 for name in answer.orphans}
    survey.close()
    return found


async def test_a_survey_alone_reports_differences_and_sends_nothing(side: SourceSide) -> None:
    (side.path / "d").mkdir()
    for name in ("same", "d/other"):
        (side.path / name).touch()
    replica = ScriptedReplica()
    replica.verdicts, replica.extra = {b"d/other": Verdict.BLOCKS}, {b"": [b"x"]}
    found = await verdicts_of(side, replica)
    assert found == {b"d": Verdict.SAME, b"same": Verdict.SAME, b"d/other": Verdict.BLOCKS, b"x": -1}
    assert replica.sent == []
    assert replica.orphans == []
    assert side.catalog.objects.get(TOP) is None, "nothing is noted either"


async def test_the_lister_runs_a_few_frames_ahead_and_no_more(
    side: SourceSide, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(lister_module, "FIRST_FRAME_ENTRIES", 1)
    monkeypatch.setattr(lister_module, "FRAME_ENTRIES", 1)
    for number in range(20):
        (side.path / f"{number:02}").mkdir()
    replica = ScriptedReplica()
    survey = Survey(side.source, replica, side.findings, strict=False)
    async with survey.frames([ALL]) as frames:
        await trio.testing.wait_all_tasks_blocked(1.0)
        assert len(replica.asked) == FRAMES_AHEAD + 1
        assert [frame async for frame in frames][-1].chunks
    assert len(replica.asked) == 21
    survey.close()


@pytest.mark.parametrize("names", [0, 2])
async def test_an_answer_that_does_not_fit_its_listing(side: SourceSide, names: int) -> None:
    class Liar(ScriptedReplica):
        def judge(self, chunk: ReceivedChunk) -> ChunkVerdicts:
            return ChunkVerdicts(Verdict.SAME, bytes(names), {}, [])

    (side.path / "f").touch()
    with pytest.raises(ProtocolError, match="does not fit"):
        await verdicts_of(side, Liar())
    (chunk,) = side.chunks()
    with pytest.raises(ProtocolError, match="does not fit"):
        await ask_about(Liar(), [chunk])


async def test_listing_pauses_while_descriptors_are_lacking(
    side: SourceSide, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    real, fails = LocalTree.directory, iter([True, True])

    def directory(tree: LocalTree, path: bytes) -> OpenDirectory:
        if path == b"d" and next(fails, False):
            raise OSError(errno.EMFILE, "too many open files")
        return real(tree, path)

    monkeypatch.setattr(LocalTree, "directory", directory)
    (side.path / "d").mkdir()
    (side.path / "d" / "f").touch()
    begun = trio.current_time()
    assert b"d/f" in await verdicts_of(side, ScriptedReplica())
    assert trio.current_time() > begun
    assert not side.findings.places(Why.UNREADABLE)


async def test_a_directory_that_is_removed_before_it_is_listed(side: SourceSide) -> None:
    (side.path / "d").mkdir()
    replica = ScriptedReplica()
    await verdicts_of(side, replica, Scope(at(b"d")), Scope(at(b"gone")))
    assert replica.asked == [b"d"]
    assert list(side.findings.places(Why.MOVED_AWAY)) == [at(b"gone")]


async def test_a_scope_of_names_says_nothing_of_the_others(side: SourceSide) -> None:
    for name in ("one", "two"):
        (side.path / name).touch()
    found = await verdicts_of(side, ScriptedReplica(), Scope(TOP, deep=False, names=frozenset([b"one", b"not there"])))
    assert found == {b"one": Verdict.SAME}


async def test_what_the_rule_excludes_is_not_listed(tmp_path: Path) -> None:
    class NoTemporaries(Filter):
        def wants(self, place: Place, is_dir: bool) -> bool:
            return not place.path.endswith(b".tmp")

    side = SourceSide(tmp_path / "source", NoTemporaries())
    for name in ("f", "f.tmp"):
        (side.path / name).touch()
    assert await verdicts_of(side, ScriptedReplica()) == {b"f": Verdict.SAME}
    side.close()


class TestFindings:
    def test_a_root_that_cannot_be_read_ends_a_run_that_knows_nothing_of_it(self, side: SourceSide) -> None:
        error = OSError(errno.ENOMEM, "no memory")
        with pytest.raises(OSError, match="no memory"):
            side.findings.failed(TOP, error)
        side.sent(b"")
        side.findings.failed(TOP, error)
        assert side.findings.places(Why.UNREADABLE) == {TOP: "no memory"}

    def test_objects_with_a_lasting_error_are_skipped(self, side: SourceSide) -> None:
        side.findings.failed(at(b"d"), OSError(errno.EACCES, "permission denied"))
        assert [skipped.code for skipped in side.source.status.skipped] == [Code.READ_SOURCE]
        assert not side.findings.places(Why.UNREADABLE)

    def test_or_stops_the_rule(self, tmp_path: Path) -> None:
        side = SourceSide(tmp_path / "source", on_error=OnError.STOP)
        with pytest.raises(StopRule):
            side.findings.failed(at(b"d"), OSError(errno.EACCES, "permission denied"))
        side.close()

    def test_too_much_that_is_unreadable_becomes_the_root(
        self, side: SourceSide, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(findings_module, "UNREADABLE_MOST", 2)
        for name in (b"a", b"b", b"c", b"d"):
            side.findings.add(at(name), Why.UNREADABLE, "why")
        assert list(side.findings.places(Why.UNREADABLE)) == [at(b"a"), at(b"b"), TOP]

    @pytest.mark.parametrize("why", list(Why))
    def test_only_what_was_sent_is_written_at_once(self, side: SourceSide, why: Why) -> None:
        """See the module: if an interrupted mirror wrote the others, they would be removed as owed."""
        side.sent(b"")
        side.findings.add(at(b"f"), why)
        assert side.doubts_kept() == ({b"f"} if why in (Why.SUBTREE_NEW, Why.RESENT, Why.REMOVED) else set())

    def test_a_doubt_follows_the_row_that_the_run_made(self, side: SourceSide) -> None:
        """The one that was written before is returned as well, since it must be closed."""
        side.sent(b"")
        (side.path / "f").touch()
        side.findings.add(at(b"f"), Why.RESENT)
        (row,) = side.sent(b"f")
        assert [doubt.node for doubt in side.findings.doubts(Why.RESENT)] == [0, row.id]

    @pytest.mark.parametrize("why", list(Why))
    def test_depth(self, side: SourceSide, why: Why) -> None:
        side.sent(b"")
        side.findings.add(at(b"d"), why)
        (doubt,) = side.findings.doubts(why)
        assert bool(doubt.deep) is (why in (Why.MOVED_AWAY, Why.SUBTREE_NEW, Why.UNREADABLE))

    def test_reasons_do_not_mix(self, side: SourceSide) -> None:
        side.sent(b"")
        reasons: Sequence[Why] = list(Why)
        for why in reasons:
            side.findings.add(at(os.fsencode(why.name)), why)
        for why in reasons:
            assert {doubt.name for doubt in side.findings.doubts(why)} == {os.fsencode(why.name)}


async def test_the_survey_says_when_all_is_listed(side: SourceSide) -> None:
    assert not side.source.status.listing_done
    replica = ScriptedReplica()
    replica.before[FrameType.SURVEY] = lambda: None
    await verdicts_of(side, replica)
    assert side.source.status.listing_done
