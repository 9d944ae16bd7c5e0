"""From verdicts to records, one chunk at a time: without a session, and with a source that changes between its listing
and the second read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from i2core.api import Entry, Filter, Kind, Place
from i2core.posix.tree import LocalDirectory
from i2core.rule.mirror.mirror import MirrorPolicy
from i2core.rule.mirror.orphans import OrphanFinder
from i2core.rule.mirror.steps import BringPolicy, Pages, Step, StepMaker
from i2core.rule.repair.plan import RepairPlan, Unresolved
from i2core.rule.repair.repair import NarrowPolicy, RepairPolicy
from i2core.rule.source.draft import Large
from i2core.rule.survey.findings import Why
from i2core.rule.survey.lister import Scope
from i2core.wire.listing import Chunk, ChunkVerdicts, Verdict
from i2core.wire.questions import OrphanList

from .bringing import TOP, ScriptedReplica, SourceSide, same


@pytest.fixture
def side(tmp_path: Path) -> Iterator[SourceSide]:
    made = SourceSide(tmp_path / "source")
    yield made
    made.close()


def maker_of(side: SourceSide, policy: BringPolicy | None = None) -> StepMaker:
    policy = policy or MirrorPolicy(side.catalog)
    return StepMaker(side.source, policy, side.findings, OrphanFinder(side.source, ScriptedReplica()))


def planned(*scopes: Scope) -> RepairPlan:
    """A plan of a rule that deletes orphans."""
    return RepairPlan(list(scopes), [], [], Unresolved(), removing=frozenset([TOP]))


def repairing(side: SourceSide, *, non_recursive: bool = False) -> RepairPolicy:
    policy = RepairPolicy(side.catalog, side.findings, planned())
    policy.non_recursive = {TOP} if non_recursive else set()
    return policy


def all_of(maker: StepMaker, chunks: list[Chunk], answers: list[ChunkVerdicts]) -> list[Step]:
    return list(maker.steps(chunks, answers))


def lacking(chunks: list[Chunk]) -> list[ChunkVerdicts]:
    """The answers of a replica that has the directories, but no entries."""
    return [ChunkVerdicts(Verdict.SAME, bytes([Verdict.WHOLE]) * len(chunk.entries), {}, []) for chunk in chunks]


def with_extra(chunk: Chunk, *names: bytes) -> list[ChunkVerdicts]:
    return [ChunkVerdicts(Verdict.SAME, bytes(len(chunk.entries)), {}, list(names))]


def records(steps: list[Step]) -> list[tuple[Kind, bytes]]:
    return [(each.kind, each.path) for step in steps if isinstance(step, list) for each in step]


def at(name: bytes) -> Place:
    return Place(0, name)


def test_missing_objects_are_created_and_the_directory_is_set_after_them(side: SourceSide) -> None:
    (side.path / "d").mkdir()
    (side.path / "d" / "f").write_bytes(b"content")
    os.symlink("f", side.path / "d" / "s")
    chunks = side.chunks()
    steps = all_of(maker_of(side), chunks, lacking(chunks))
    names = [(Kind.CREATE, b"d/f"), (Kind.SYMLINK, b"d/s")]
    listed = [entry.name for entry in chunks[1].entries]
    inside = names if listed == [b"f", b"s"] else names[::-1]
    assert records(steps) == [(Kind.MKDIR, b"d"), (Kind.SETATTR, b""), *inside, (Kind.SETATTR, b"d")]


def test_equal_objects_are_noted_and_not_even_opened(side: SourceSide, monkeypatch: pytest.MonkeyPatch) -> None:
    (side.path / "d").mkdir()
    (side.path / "d" / "f").write_bytes(b"content")
    chunks = side.chunks()
    side.sent(b"")

    def opened(path: bytes) -> None:
        raise AssertionError(path)

    monkeypatch.setattr(side.tree, "directory", opened)
    assert all_of(maker_of(side), chunks, same(chunks)) == []
    assert side.catalog.objects.get(at(b"d/f")) is not None
    assert side.source.status.checked_files == 1


def test_a_large_file_is_a_step_of_its_own(side: SourceSide) -> None:
    (side.path / "big").write_bytes(bytes(5 << 20))
    (side.path / "big").open("r+b").close()
    chunks = side.chunks()
    verdicts = [ChunkVerdicts(Verdict.SAME, bytes([Verdict.BLOCKS]), {}, [])]
    maker = maker_of(side)
    steps = all_of(maker, chunks, verdicts)
    (large,) = [step for step in steps if isinstance(step, Large)]
    assert (large.place, large.whole, large.same_meta) == (at(b"big"), False, True)
    assert records(steps) == [], "it was not sent, so the directory's times are as they were"


class TestNamesThatVanish:
    """A name is listed, the replica lacks it or has another object there, and it is gone when it is read."""

    def test_is_an_orphan_in_a_mirror(self, side: SourceSide) -> None:
        (side.path / "f").write_bytes(b"content")
        chunks = side.chunks()
        (side.path / "f").unlink()
        steps = all_of(maker_of(side), chunks, lacking(chunks))
        assert OrphanList(0, b"", [b"f"]) in steps

    def test_is_removed_in_a_repair(self, side: SourceSide) -> None:
        (side.path / "f").write_bytes(b"content")
        chunks = side.chunks()
        (side.path / "f").unlink()
        steps = all_of(maker_of(side, repairing(side)), chunks, lacking(chunks))
        assert (Kind.REMOVE, b"f") in records(steps)

    def test_is_looked_into_again_where_names_alone_are_compared(self, side: SourceSide) -> None:
        (side.path / "f").write_bytes(b"content")
        chunks = side.chunks()
        (side.path / "f").unlink()
        steps = all_of(maker_of(side, repairing(side, non_recursive=True)), chunks, lacking(chunks))
        assert records(steps) == []
        assert list(side.findings.places(Why.APPEARED)) == [at(b"f")]

    def test_is_unverified_when_it_was_sent_before(self, side: SourceSide) -> None:
        (side.path / "f").write_bytes(b"content")
        side.sent(b"", b"f")
        chunks = side.chunks()
        (side.path / "f").unlink()
        assert all_of(maker_of(side), chunks, lacking(chunks)) == []
        row = side.catalog.objects.get(at(b"f"))
        assert row is not None
        assert row.unverified

    def test_a_whole_directory(self, side: SourceSide) -> None:
        (side.path / "d").mkdir()
        chunks = side.chunks(Scope(at(b"d")))
        (side.path / "d").rmdir()
        assert all_of(maker_of(side), chunks, same(chunks)) == []
        assert list(side.findings.places(Why.MOVED_AWAY)) == [at(b"d")]

    def test_a_large_file_with_its_directory(self, side: SourceSide) -> None:
        """It is found at its new place, unless it is removed before: then what the replica had there is left."""
        (side.path / "d").mkdir()
        side.sent(b"", b"d")
        (side.path / "d").rename(side.path / "e")
        assert maker_of(side).left_by(at(b"d/large")) == []
        assert list(side.findings.places(Why.MOVED_AWAY)) == [at(b"d/large")]

    def test_a_directory_without_a_row_for_its_parent(self, side: SourceSide) -> None:
        """The directory above was renamed meanwhile: there is no row to note it under."""
        (side.path / "a" / "b").mkdir(parents=True)
        chunks = side.chunks(Scope(at(b"a/b")))
        assert all_of(maker_of(side), chunks, lacking(chunks)) == []
        assert list(side.findings.places(Why.MOVED_AWAY)) == [at(b"a/b")]


class TestNamesThatOnlyTheReplicaHas:
    def test_are_orphans_in_a_mirror(self, side: SourceSide) -> None:
        (chunk,) = side.chunks()
        assert OrphanList(0, b"", [b"x"]) in all_of(maker_of(side), [chunk], with_extra(chunk, b"x"))

    def test_are_removed_in_a_repair(self, side: SourceSide) -> None:
        (chunk,) = side.chunks()
        steps = all_of(maker_of(side, repairing(side)), [chunk], with_extra(chunk, b"x"))
        assert records(steps)[0] == (Kind.REMOVE, b"x")

    def test_are_left_alone_where_names_alone_are_compared(self, side: SourceSide) -> None:
        (chunk,) = side.chunks()
        steps = all_of(maker_of(side, repairing(side, non_recursive=True)), [chunk], with_extra(chunk, b"x"))
        assert records(steps) == [(Kind.SETATTR, b"")] or records(steps) == []
        assert list(side.findings.places(Why.MOVED_AWAY)) == [at(b"x")]

    @pytest.mark.parametrize("is_dir", [False, True])
    def test_that_came_meanwhile_stay(self, side: SourceSide, is_dir: bool) -> None:
        (chunk,) = side.chunks()
        (side.path / "x").mkdir() if is_dir else (side.path / "x").touch()
        maker = maker_of(side)
        assert not [step for step in all_of(maker, [chunk], with_extra(chunk, b"x")) if isinstance(step, OrphanList)]
        assert list(side.findings.places(Why.APPEARED)) == [at(b"x")]
        assert list(maker.dirs_to_add) == ([at(b"x")] if is_dir else [])

    def test_that_the_rule_excludes_stay(self, tmp_path: Path) -> None:
        class NoTemporaries(Filter):
            def wants(self, place: Place, is_dir: bool) -> bool:
                return not place.path.endswith(b".tmp")

        side = SourceSide(tmp_path / "source", NoTemporaries())
        try:
            (chunk,) = side.chunks()
            steps = all_of(maker_of(side), [chunk], with_extra(chunk, b"x", b"x.tmp"))
            assert [step for step in steps if isinstance(step, OrphanList)] == [OrphanList(0, b"", [b"x"])]
        finally:
            side.close()

    def test_lose_their_rows_unless_they_are_back(self, side: SourceSide) -> None:
        for name in ("gone", "back", "not there either"):
            (side.path / name).touch()
        side.sent(b"", b"gone", b"back", b"not there either")
        for name in ("gone", "back", "not there either"):
            (side.path / name).unlink()
        (chunk,) = side.chunks()
        (side.path / "back").touch()
        all_of(maker_of(side), [chunk], with_extra(chunk, b"gone", b"back"))
        rows = [side.catalog.objects.get(at(name)) for name in (b"gone", b"back", b"not there either")]
        assert [row is not None for row in rows] == [False, True, False]

    def test_a_part_of_a_directory_says_nothing_of_the_rest(self, side: SourceSide) -> None:
        """Its other names are listed in another chunk: their rows must not be removed for lack of an entry."""
        (side.path / "elsewhere").touch()
        side.sent(b"", b"elsewhere")
        (chunk,) = side.chunks(Scope(TOP, deep=False, names=frozenset([b"not there"])))
        all_of(maker_of(side, repairing(side, non_recursive=True)), [chunk], same([chunk]))
        assert side.catalog.objects.get(at(b"elsewhere")) is not None

    def test_too_many_for_one_answer_come_in_pages(self, side: SourceSide) -> None:
        (side.path / "kept").touch()
        (chunk,) = side.chunks()
        maker = maker_of(side)
        (pages,) = [
            step
            for step in maker.steps([chunk], [ChunkVerdicts(Verdict.SAME, b"\0", {}, [], more=True)])
            if isinstance(step, Pages)
        ]
        assert maker.page_steps(pages, [b"kept", b"x"]) == [OrphanList(0, b"", [b"x"])]
        assert not side.findings.places(Why.APPEARED), "what was listed did not come since"


class TestFilesWithSeveralNames:
    def two(self, side: SourceSide) -> tuple[list[Chunk], bytes, bytes]:
        (side.path / "one").write_bytes(b"content")
        os.link(side.path / "one", side.path / "two")
        chunks = side.chunks()
        first, second = (entry.name for entry in chunks[0].entries)
        return chunks, first, second

    def verdicts(self) -> list[ChunkVerdicts]:
        """The replica has none of it, so the second name is to become a link to the first."""
        return [ChunkVerdicts(Verdict.SAME, bytes([Verdict.WHOLE, Verdict.LINK]), {}, [])]

    def test_are_sent_once(self, side: SourceSide) -> None:
        chunks, first, second = self.two(side)
        steps = records(all_of(maker_of(side), chunks, self.verdicts()))
        assert steps == [(Kind.CREATE, first), (Kind.LINK, second), (Kind.SETATTR, b"")]

    @pytest.mark.parametrize("replaced", [False, True], ids=["gone", "another file"])
    def test_are_sent_under_the_second_name_when_the_first_is_lost(self, side: SourceSide, replaced: bool) -> None:
        chunks, first, second = self.two(side)
        os.link(side.path / os.fsdecode(second), side.path.parent / "elsewhere")  # so that it keeps several names
        (side.path / os.fsdecode(first)).unlink()
        if replaced:
            (side.path / os.fsdecode(first)).write_bytes(b"another")
        steps = records(all_of(maker_of(side), chunks, self.verdicts()))
        assert (Kind.CREATE, second) in steps
        assert ((Kind.CREATE, first) in steps) is replaced

    @pytest.mark.parametrize("replaced", [False, True], ids=["gone", "another file"])
    def test_a_change_that_was_to_be_sent_under_a_lost_name(self, side: SourceSide, replaced: bool) -> None:
        """The replica has both names as one file, so the second needs nothing after the first was sent."""
        chunks, first, second = self.two(side)
        (side.path / os.fsdecode(first)).unlink()
        if replaced:
            (side.path / os.fsdecode(first)).write_bytes(b"another")
        verdicts = [ChunkVerdicts(Verdict.SAME, bytes([Verdict.WHOLE, Verdict.SAME]), {}, [])]
        steps = records(all_of(maker_of(side), chunks, verdicts))
        assert (Kind.CREATE, second) in steps

    def test_a_repair_that_sends_one_as_new_keeps_that_unverified(self, side: SourceSide) -> None:
        chunks, _, _ = self.two(side)
        side.sent(b"", b"one", b"two")
        verdicts = [ChunkVerdicts(Verdict.SAME, bytes([Verdict.WHOLE, Verdict.SAME]), {}, [])]
        first, second = (entry.name for entry in chunks[0].entries)
        all_of(maker_of(side, repairing(side)), chunks, verdicts)
        assert list(side.findings.places(Why.RESENT)) == [at(first)]
        assert side.doubts_kept() == {first}
        row = side.catalog.objects.get(at(second))
        assert row is not None

    def test_a_repair_does_not_take_for_one_what_was_sent_as_two(self, side: SourceSide) -> None:
        """`two` was linked after `one` had been listed, and was sent as a new file."""
        (side.path / "here").mkdir()
        (side.path / "there").mkdir()
        (side.path / "here" / "one").write_bytes(b"content")
        side.sent(b"", b"here", b"there", b"here/one")
        os.link(side.path / "here" / "one", side.path / "there" / "two")
        (row,) = side.sent(b"there/two")
        side.catalog.names.share(row)
        chunks = side.chunks(Scope(at(b"here"), deep=False))
        all_of(maker_of(side, repairing(side)), chunks, same(chunks))
        assert list(side.findings.places(Why.RESENT)) == [at(b"here/one")]
        one, two = (side.catalog.objects.get(at(name)) for name in (b"here/one", b"there/two"))
        assert one is not None
        assert two is not None
        assert two.unverified
        assert one.inode != two.inode

    def test_a_repair_leaves_alone_what_is_one(self, side: SourceSide) -> None:
        chunks, first, second = self.two(side)
        one, two = side.sent(b"", first, second)[1:]
        side.catalog.names.join(two, one)
        all_of(maker_of(side, repairing(side)), chunks, same(chunks))
        assert not side.findings.places(Why.RESENT)

    def test_a_repair_takes_for_one_what_was_compared_as_one(self, side: SourceSide) -> None:
        """The replica has them as one object. Only their rows do not say so yet."""
        chunks, first, second = self.two(side)
        side.sent(b"", first, second)
        all_of(maker_of(side, repairing(side)), chunks, same(chunks))
        one, two = (side.catalog.objects.get(at(name)) for name in (first, second))
        assert one is not None
        assert two is not None
        assert one.inode == two.inode != 0

    def test_a_link_is_noted_in_the_state_that_was_sent(self, side: SourceSide) -> None:
        """The file changes after it was sent under its first name, and before the second becomes a link to it. If the
        link were noted with the change, nobody would send the change."""
        chunks, first, second = self.two(side)
        steps = maker_of(side).steps(chunks, self.verdicts())
        sent = [next(steps)]
        side.path.joinpath(os.fsdecode(first)).chmod(0o604)
        listed = side.tree.lookup(second)  # the second name is listed after that
        assert listed is not None
        cast(list[Entry], chunks[0].entries)[1] = listed
        sent += steps
        assert records(sent)[:2] == [(Kind.CREATE, first), (Kind.LINK, second)]
        one, two = (side.catalog.objects.get(at(name)) for name in (first, second))
        assert one is not None
        assert two is not None
        assert (two.mode, two.ctime_ns, two.inode) == (one.mode, one.ctime_ns, one.inode)
        assert not two.untouched(listed)

    def test_a_mirror_comes_to_the_other_names_itself(self, side: SourceSide) -> None:
        chunks, _, _ = self.two(side)
        all_of(maker_of(side), chunks, self.verdicts())
        assert not side.findings.places(Why.RESENT)
        assert side.doubts_kept() == set()


class TestDirectoriesThatTheReplicaLacks:
    def test_of_which_the_name_alone_was_compared(self, side: SourceSide) -> None:
        (side.path / "d").mkdir()
        (chunk,) = side.chunks(Scope(TOP, deep=False))
        maker = maker_of(side, repairing(side, non_recursive=True))
        steps = all_of(maker, [chunk], lacking([chunk]))
        assert records(steps) == [(Kind.MKDIR, b"d"), (Kind.SETATTR, b"")]
        assert list(maker.dirs_to_add) == [at(b"d")]
        (doubt,) = side.findings.doubts(Why.SUBTREE_NEW)
        row = side.catalog.objects.get(at(b"d"))
        assert row is not None
        assert (doubt.node, bool(doubt.deep)) == (row.id, True)
        assert side.doubts_kept() == {b"d"}, "a kill after this must not leave a directory that is never compared"

    def test_without_a_row_are_sent_as_well(self, side: SourceSide) -> None:
        """The replica has a directory of that name, whose content is unknown here."""
        (side.path / "d").mkdir()
        (chunk,) = side.chunks(Scope(TOP, deep=False))
        maker = maker_of(side, repairing(side, non_recursive=True))
        all_of(maker, [chunk], same([chunk]))
        assert list(maker.dirs_to_add) == [at(b"d")]

    def test_that_were_sent_are_left(self, side: SourceSide) -> None:
        (side.path / "d").mkdir()
        side.sent(b"", b"d")
        (chunk,) = side.chunks(Scope(TOP, deep=False))
        maker = maker_of(side, repairing(side, non_recursive=True))
        all_of(maker, [chunk], same([chunk]))
        assert not maker.dirs_to_add

    def test_are_filled_in_the_next_round(self, side: SourceSide) -> None:
        """What was sent now would fail if the directory cannot be made, and be compared again if it can."""
        (side.path / "d").mkdir()
        (side.path / "d" / "f").touch()
        side.sent(b"", b"d")
        names = Scope(TOP, deep=False, names=frozenset([b"d"])), Scope(at(b"d"), deep=False, names=frozenset([b"f"]))
        chunks = side.chunks(*names)
        policy = NarrowPolicy(side.catalog, side.findings, planned())
        policy.non_recursive = {scope.place for scope in names}
        answers = [
            answer._replace(here=here)
            for answer, here in zip(lacking(chunks), (Verdict.SAME, Verdict.WHOLE), strict=True)
        ]
        maker = maker_of(side, policy)
        assert records(all_of(maker, chunks, answers)) == [(Kind.MKDIR, b"d"), (Kind.SETATTR, b"")]
        assert list(maker.dirs_to_add) == [at(b"d")]

    def test_that_it_should_have_are_not_looked_into(self, side: SourceSide) -> None:
        """The directories above are looked at first."""
        (side.path / "d" / "e").mkdir(parents=True)
        side.sent(b"", b"d", b"d/e")
        scope = Scope(at(b"d"))
        chunks = side.chunks(scope)
        policy = RepairPolicy(side.catalog, side.findings, planned(scope))
        answers = [answer._replace(here=Verdict.WHOLE) for answer in lacking(chunks)]
        assert all_of(maker_of(side, policy), chunks, answers) == []
        assert policy.next_round([]) == [Scope(TOP, deep=False, names=frozenset([b"d"])), scope]
        assert records(all_of(maker_of(side, policy), chunks, answers))[0] == (Kind.MKDIR, b"d/e")


def test_a_file_that_became_a_directory_sets_the_one_above_again(side: SourceSide) -> None:
    """The listing of the directory above, a moment earlier, showed a file."""
    (side.path / "d").mkdir()
    chunks = side.chunks(Scope(at(b"d")))
    side.sent(b"")
    steps = all_of(maker_of(side), chunks, same(chunks))
    assert records(steps)[:2] == [(Kind.MKDIR, b"d"), (Kind.SETATTR, b"")]


def test_another_file_is_not_given_the_attributes_of_a_shared_one(side: SourceSide) -> None:
    (side.path / "one").write_bytes(b"content")
    os.link(side.path / "one", side.path / "two")
    chunks = side.chunks()
    first = chunks[0].entries[0].name
    (side.path / os.fsdecode(first)).unlink()
    (side.path / os.fsdecode(first)).write_bytes(b"another")
    answer = [ChunkVerdicts(Verdict.SAME, bytes([Verdict.META, Verdict.SAME]), {}, [])]
    steps = records(all_of(maker_of(side), chunks, answer))
    assert (Kind.CREATE, first) in steps


def test_an_entry_that_cannot_be_read_now(side: SourceSide, monkeypatch: pytest.MonkeyPatch) -> None:
    (side.path / "f").write_bytes(b"content")
    side.sent(b"", b"f")
    chunks = side.chunks()

    def out_of_descriptors(*_: object) -> None:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(LocalDirectory, "open", out_of_descriptors)
    assert all_of(maker_of(side), chunks, lacking(chunks)) == []
    assert side.findings.places(Why.UNREADABLE) == {at(b"f"): "too many open files"}
    row = side.catalog.objects.get(at(b"f"))
    assert row is not None
    assert row.unverified, "the next check must find it changed"


def test_the_directory_is_closed_when_no_more_steps_are_taken(side: SourceSide) -> None:
    (side.path / "f").write_bytes(b"content")
    chunks = side.chunks()
    before = len(os.listdir("/proc/self/fd"))
    steps = maker_of(side).steps(chunks, lacking(chunks))
    next(steps)
    assert len(os.listdir("/proc/self/fd")) > before
    steps.close()
    assert len(os.listdir("/proc/self/fd")) == before
