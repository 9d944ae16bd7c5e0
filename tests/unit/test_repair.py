"""Unverified names: where they are compared, and what a repair sends and leaves for later."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from i2core.api import Kind, LinkError, Place
from i2core.config.model import OrphanAction
from i2core.rule.catalog.doubts import UNNUMBERED
from i2core.rule.catalog.rows import Depth, Doubt
from i2core.rule.repair.making_room import make_room_among
from i2core.rule.repair.plan import Extent, RepairPlan, Unresolved, plan, with_directories
from i2core.rule.repair.repair import repair
from i2core.rule.survey.lister import Scope
from i2core.testing.filter import NameFilter
from i2core.wire.frame import FrameType
from i2core.wire.listing import Verdict
from i2core.wire.questions import OrphanList

from .bringing import TOP, ScriptedReplica, SourceSide


@pytest.fixture
def side(tmp_path: Path) -> Iterator[SourceSide]:
    made = SourceSide(tmp_path / "source")
    for name in ("d", "d/e"):
        (made.path / name).mkdir()
    for name in ("d/f", "d/e/g"):
        (made.path / name).write_bytes(b"content")
    made.sent(b"", b"d", b"d/e", b"d/f", b"d/e/g")
    yield made
    made.close()


def at(name: bytes) -> Place:
    return Place(0, name)


def doubt(side: SourceSide, path: bytes, *, deep: bool = False, replaced: bool = False) -> Doubt:
    return side.catalog.doubts.at(at(path), Depth.REPLACED if replaced else Depth(deep))


def only(place: Place, *names: bytes) -> Scope:
    return Scope(place, deep=False, names=frozenset(names))


async def repaired(
    side: SourceSide, planned: RepairPlan, replica: ScriptedReplica
) -> tuple[Unresolved, dict[Doubt, None]]:
    found: dict[Doubt, None] = {}
    return await repair(side.source, replica, planned, found), found


class TestPlan:
    def test_a_file_is_compared_with_its_directory(self, side: SourceSide) -> None:
        planned = plan(side.source, [doubt(side, b"d/f")])
        assert planned.scopes == [Scope(at(b"d"), deep=False)]
        assert planned.covers(at(b"d/f"))
        assert not planned.covers(at(b"d/e/g"))

    def test_the_content_of_a_directory_is_compared_as_well(self, side: SourceSide) -> None:
        """Its own attributes are compared together with its entries."""
        planned = plan(side.source, [doubt(side, b"d/e")])
        assert planned.scopes == [Scope(at(b"d"), deep=False), Scope(at(b"d/e"), deep=False)]

    def test_a_deep_doubt_covers_all_that_is_beneath(self, side: SourceSide) -> None:
        planned = plan(side.source, [doubt(side, b"d", deep=True), doubt(side, b"d/e/g")])
        assert planned.scopes == [Scope(TOP, deep=False), Scope(at(b"d"))]
        assert planned.covers(at(b"d/e/g"))

    def test_what_neither_side_has_is_removed(self, side: SourceSide) -> None:
        planned = plan(side.source, [Doubt(doubt(side, b"d/f").parent, b"x", 0)])
        assert planned.gone == [at(b"d/x")]
        assert planned.scopes == [Scope(at(b"d"), deep=False)], "the directory's times were to be set after it"

    def test_objects_that_left_the_source_are_not_trusted(self, side: SourceSide) -> None:
        planned_for = doubt(side, b"d/f")
        (side.path / "d" / "f").unlink()
        assert plan(side.source, [planned_for]).gone == []
        row = side.catalog.objects.get(at(b"d/f"))
        assert row is not None
        assert row.unverified

    def test_a_directory_that_has_moved_waits(self, side: SourceSide) -> None:
        """Its entries would be compared with a directory that the replica does not have there yet."""
        planned_for = doubt(side, b"d/e/g")
        (side.path / "d" / "e").rename(side.path / "e")
        planned = plan(side.source, [planned_for, planned_for])
        assert planned.scopes == []
        assert planned.unresolved.doubts == [planned_for]
        assert set(planned.unresolved.moved) == {at(b"d")}

    def test_a_deep_directory_that_has_moved_waits(self, side: SourceSide) -> None:
        planned_for = doubt(side, b"d/e", deep=True)
        (side.path / "d" / "e").rename(side.path / "e")
        assert plan(side.source, [planned_for]).unresolved.doubts == [planned_for]

    def test_all_names_of_one_object_are_compared(self, side: SourceSide) -> None:
        os.link(side.path / "d" / "f", side.path / "name")
        rows = side.sent(b"d/f", b"name")
        side.catalog.names.join(rows[1], rows[0])
        planned = plan(side.source, [doubt(side, b"d/f")])
        assert {place for place, _ in planned.compared} == {at(b"d/f"), at(b"name")}

    def test_a_narrow_repair_compares_only_the_names(self, side: SourceSide) -> None:
        planned = plan(side.source, [doubt(side, b"d/f")], Extent.NAMES)
        assert planned.scopes == [Scope(at(b"d"), deep=False, names=frozenset([b"f"]))]
        assert planned.covers(at(b"d/f"))
        assert not planned.covers(at(b"d/e"))

    def test_room_is_made_in_exactly_what_is_unverified(self, side: SourceSide) -> None:
        doubts = [doubt(side, b"d/f"), doubt(side, b"d/e", deep=True)]
        assert plan(side.source, doubts, Extent.UNVERIFIED).scopes == [only(at(b"d"), b"e", b"f"), Scope(at(b"d/e"))]
        whole = doubt(side, b"", deep=True)
        assert plan(side.source, [*doubts, whole], Extent.UNVERIFIED).scopes == [Scope(TOP)]


class TestMakingRoom:
    """The replica's disk is full: no record is sent that takes space."""

    async def test_names_that_only_the_replica_has_are_removed_where_all_is_unverified(self, side: SourceSide) -> None:
        replica = ScriptedReplica()
        replica.extra = {b"d": [b"x"], b"d/e": [b"y", b"z"]}
        planned = plan(side.source, [doubt(side, b"d/f"), doubt(side, b"d/e", replaced=True)], Extent.UNVERIFIED)
        await make_room_among(side.source, replica, planned)
        assert replica.kinds() == [(Kind.REMOVE, b"d/e/y"), (Kind.REMOVE, b"d/e/z")]
        assert replica.orphans == []

    async def test_orphans_are_handled_as_the_rule_says(self, side: SourceSide) -> None:
        replica = ScriptedReplica()
        replica.extra = {b"d/e": [b"y", b"z"]}
        removed = Doubt(doubt(side, b"d/e/y").parent, b"y", 0)
        planned = plan(side.source, [doubt(side, b"d/e", deep=True), removed], Extent.UNVERIFIED)
        await make_room_among(side.source, replica, planned._replace(gone=[]))
        assert replica.kinds() == [(Kind.REMOVE, b"d/e/y")]
        assert replica.orphans == [OrphanList(0, b"d/e", [b"z"])]

    async def test_what_the_catalog_knows_is_left_to_the_pass_over_the_catalog(self, side: SourceSide) -> None:
        (side.path / "d" / "e" / "g").rename(side.path / "moved")
        replica = ScriptedReplica()
        replica.extra = {b"d/e": [b"g", b"y"]}
        await make_room_among(
            side.source, replica, plan(side.source, [doubt(side, b"d/e", replaced=True)], Extent.UNVERIFIED)
        )
        assert replica.kinds() == [(Kind.REMOVE, b"d/e/y")]

    async def test_excluded_names_stay(self, tmp_path: Path) -> None:
        side = SourceSide(tmp_path / "filtered", NameFilter(b"kept"))
        (side.path / "d").mkdir()
        side.sent(b"", b"d")
        replica = ScriptedReplica()
        replica.extra = {b"d": [b"kept", b"y"]}
        await make_room_among(
            side.source, replica, plan(side.source, [doubt(side, b"d", replaced=True)], Extent.UNVERIFIED)
        )
        assert replica.kinds() == [(Kind.REMOVE, b"d/y")]
        side.close()

    async def test_longer_files_are_truncated(self, side: SourceSide) -> None:
        replica = ScriptedReplica()
        replica.verdicts = {b"d/f": Verdict.BLOCKS, b"d/e/g": Verdict.BLOCKS}
        replica.longer = {b"d/f", b"d/e/g"}
        await make_room_among(
            side.source, replica, plan(side.source, [doubt(side, b"d/e", deep=True)], Extent.UNVERIFIED)
        )
        assert replica.kinds() == [(Kind.TRUNCATE, b"d/e/g")]


async def test_what_differs_is_sent_and_nothing_else(side: SourceSide) -> None:
    replica = ScriptedReplica()
    replica.verdicts = {b"d/f": Verdict.WHOLE}
    unresolved, found = await repaired(side, plan(side.source, [doubt(side, b"d/f")]), replica)
    assert replica.kinds() == [(Kind.CREATE, b"d/f")]
    assert unresolved == Unresolved()
    assert found == {}


async def test_what_neither_side_has_is_removed_first(side: SourceSide) -> None:
    replica = ScriptedReplica()
    replica.before[FrameType.SURVEY] = lambda: order.append(len(replica.sent))
    order: list[int] = []
    await repaired(side, plan(side.source, [Doubt(doubt(side, b"d").node, b"x", 0)]), replica)
    assert replica.kinds() == [(Kind.REMOVE, b"d/x")]
    assert order == [1]


async def test_a_name_removed_between_plan_and_listing_is_compared_again(side: SourceSide) -> None:
    """The replica still has it, and perhaps no hint of it is left."""
    planned_for = Doubt(doubt(side, b"d/f").parent, b"x", 0)
    (side.path / "d" / "x").touch()
    planned = plan(side.source, [planned_for])
    (side.path / "d" / "x").unlink()
    replica = ScriptedReplica()
    replica.extra = {b"d": [b"x", b"somebody else's"]}
    unresolved, _ = await repaired(side, planned, replica)
    assert unresolved.doubts == [planned_for]
    assert replica.kinds() == [], "other objects of the replica there are left alone"


async def test_a_directory_that_is_removed_is_compared_again(side: SourceSide) -> None:
    planned_for = doubt(side, b"d/e", deep=True)
    planned = plan(side.source, [planned_for])
    (side.path / "d" / "e").rename(side.path / "d" / "elsewhere")
    unresolved, _ = await repaired(side, planned, ScriptedReplica())
    assert planned_for in unresolved.doubts


async def test_in_a_replaced_directory_what_only_the_replica_has_is_removed(side: SourceSide) -> None:
    """Another directory that had this name was removed, with all that was in it."""
    replica = ScriptedReplica()
    replica.extra = {b"": [b"not there"], b"d": [b"x"], b"d/e": [b"y"]}
    await repaired(side, plan(side.source, [doubt(side, b"d", replaced=True)]), replica)
    assert replica.kinds() == [(Kind.REMOVE, b"d/x"), (Kind.REMOVE, b"d/e/y")]
    assert replica.orphans == []


class TestNamesThatOnlyTheReplicaHas:
    """In a directory that is unverified with everything beneath."""

    async def test_are_orphans_unless_a_record_was_about_them(self, side: SourceSide) -> None:
        """Records about `x` and `y` were lost; too many others were unverified, so only the catalog still knows `y`."""
        parent = doubt(side, b"d/f").parent
        x, y = Doubt(parent, b"x", 0), Doubt(parent, b"y", 0)
        side.catalog.doubts.keep(UNNUMBERED, [x, y])
        (side.path / "d" / "x").touch()
        planned = plan(side.source, [doubt(side, b"d", deep=True), x])
        (side.path / "d" / "x").unlink()  # so the plan does not remove it
        replica = ScriptedReplica()
        replica.extra = {b"d": [b"x", b"y", b"somebody's"], b"d/e": [b"x"]}
        await repaired(side, planned, replica)
        assert sorted(replica.kinds()) == [(Kind.REMOVE, b"d/x"), (Kind.REMOVE, b"d/y")]
        assert replica.orphans == [OrphanList(0, b"d", [b"somebody's"]), OrphanList(0, b"d/e", [b"x"])]

    async def test_are_removed_if_the_rule_deletes_orphans(self, side: SourceSide) -> None:
        """By records, which are known to be durable or not."""
        replica = ScriptedReplica()
        replica.extra = {b"d": [b"x"]}
        source = attrs.evolve(side.source, orphans=OrphanAction.DELETE)
        await repair(source, replica, plan(source, [doubt(side, b"d", deep=True)]), {})
        assert replica.kinds() == [(Kind.REMOVE, b"d/x")]

    async def test_are_unverified_themselves_if_they_were_sent_once(self, side: SourceSide) -> None:
        """The catalog forgets them, and the record that removes them may be lost: they must not become orphans."""
        planned = plan(side.source, [doubt(side, b"d", deep=True)])
        (side.path / "d" / "f").unlink()
        replica = ScriptedReplica()
        replica.extra = {b"d": [b"f", b"somebody's"]}
        _, found = await repaired(side, planned, replica)
        assert replica.kinds() == [(Kind.REMOVE, b"d/f")]
        assert replica.orphans == [OrphanList(0, b"d", [b"somebody's"])]
        assert [(each.name, each.node, each.deep) for each in found] == [(b"f", 0, Depth.NAME)]
        assert side.doubts_kept() == {b"f"}

    async def test_are_orphans_where_a_directory_moved_to(self, side: SourceSide) -> None:
        """Only its old name may still have what was in it."""
        moved = doubt(side, b"d/e", replaced=True)
        row = side.catalog.objects.get(at(b"d/e"))
        assert row is not None
        side.catalog.objects.move(row, at(b"new"))
        (side.path / "d" / "e").rename(side.path / "new")
        (side.path / "d" / "e").mkdir()
        side.sent(b"d/e")
        assert plan(side.source, [moved, doubt(side, b"new", deep=True)]).removing == {at(b"d/e")}


async def test_a_name_that_is_created_during_a_compare_is_compared_again(side: SourceSide) -> None:
    """It may be gone before its hint is checked, and the replica would keep its object there."""
    replica = ScriptedReplica()
    replica.extra = {b"d": [b"x"]}
    replica.before[FrameType.SURVEY] = (side.path / "d" / "x").touch
    unresolved, _ = await repaired(side, plan(side.source, [doubt(side, b"d", deep=True)]), replica)
    assert [each.name for each in unresolved.doubts] == [b"x"]
    assert replica.kinds() == []


async def test_a_removal_that_the_replica_refused_is_not_compared_at_once(side: SourceSide) -> None:
    """Its failure is reported with the ack, and then it waits. If it were compared again at once, the rule would never
    come to rest."""
    replica = ScriptedReplica()
    replica.extra = {b"d": [b"x"]}
    unresolved, _ = await repaired(side, plan(side.source, [Doubt(doubt(side, b"d").node, b"x", 0)]), replica)
    assert replica.kinds() == [(Kind.REMOVE, b"d/x")]
    assert unresolved.doubts == []


class TestDirectoriesThatTheReplicaLacks:
    async def test_are_filled_in_the_same_run(self, side: SourceSide) -> None:
        replica = ScriptedReplica()
        replica.verdicts, replica.missing = {b"d/e": Verdict.WHOLE}, {b"d/e"}
        planned = plan(side.source, [doubt(side, b"d/f")])
        replica.before[FrameType.BATCH] = replica.missing.clear
        replica.verdicts |= {b"d/e/g": Verdict.WHOLE}
        unresolved, found = await repaired(side, planned, replica)
        assert replica.kinds() == [(Kind.MKDIR, b"d/e"), (Kind.CREATE, b"d/e/g")]
        assert [each.name for each in found] == [b"e"]
        assert unresolved == Unresolved()

    async def test_are_unverified_when_the_link_breaks_before_they_are_filled(self, side: SourceSide) -> None:
        replica = ScriptedReplica()
        replica.verdicts = {b"d/e": Verdict.WHOLE, b"d/e/g": Verdict.WHOLE}
        replica.cut_at = Kind.CREATE
        found: dict[Doubt, None] = {}
        with pytest.raises(LinkError):
            await repair(side.source, replica, plan(side.source, [doubt(side, b"d/f")]), found)
        assert [(each.name, bool(each.deep)) for each in found] == [(b"e", True)]
        assert side.doubts_kept() == {b"e"}

    async def test_wait_for_their_turn_in_a_narrow_repair(self, side: SourceSide) -> None:
        replica = ScriptedReplica()
        replica.verdicts = {b"d/e": Verdict.WHOLE}
        unresolved, found = await repaired(side, plan(side.source, [doubt(side, b"d/e")], Extent.NAMES), replica)
        assert replica.kinds()[-1] == (Kind.MKDIR, b"d/e")
        assert (Kind.CREATE, b"d/e/g") not in replica.kinds()
        assert [each.name for each in unresolved.deeper] == [b"e"]
        assert found == {}

    async def test_have_nothing_made_in_them_by_a_narrow_repair(self, side: SourceSide) -> None:
        replica = ScriptedReplica()
        replica.verdicts, replica.missing = {b"d": Verdict.WHOLE}, {b"d", b"d/e"}
        planned_for = doubt(side, b"d/e/g")
        unresolved, _ = await repaired(side, plan(side.source, [planned_for], Extent.NAMES), replica)
        assert unresolved.absent == [(at(b"d/e/g"), planned_for)]
        assert [each for each in replica.kinds() if each[0] is not Kind.REMOVE] == [(Kind.MKDIR, b"d")]
        assert [(each.name, bool(each.deep)) for each in unresolved.deeper] == [(b"d", True)]

    async def test_are_found_by_the_names_above(self, side: SourceSide) -> None:
        """Nothing is sent that would fail before the topmost of them exists again."""
        replica = ScriptedReplica()
        replica.verdicts, replica.missing = {b"d": Verdict.WHOLE}, {b"d", b"d/e"}
        planned = plan(side.source, [doubt(side, b"d/e/g"), doubt(side, b"d/e", deep=True)])
        replica.before[FrameType.BATCH] = replica.missing.clear
        replica.verdicts |= {b"d/e": Verdict.WHOLE, b"d/e/g": Verdict.WHOLE}
        unresolved, found = await repaired(side, planned, replica)
        assert replica.kinds()[:2] == [(Kind.MKDIR, b"d"), (Kind.MKDIR, b"d/e")]
        assert (Kind.CREATE, b"d/e/g") in replica.kinds()[2:]
        assert replica.asked[:6] == [b"d", b"d/e", b"", b"d", b"d/e", b"d"]
        assert [each.name for each in found] == [b"d"]
        assert unresolved == Unresolved()

    async def test_or_only_cannot_be_read(self, side: SourceSide) -> None:
        """Then the records for what is in them say why, or succeed."""
        replica = ScriptedReplica()
        replica.missing = {b"d/e"}
        planned = plan(side.source, [doubt(side, b"d/e/g")], Extent.NAMES)
        unresolved, _ = await repaired(side, planned, replica)
        assert [each for each in replica.kinds() if each[0] is not Kind.REMOVE] == [(Kind.CREATE, b"d/e/g")]
        assert unresolved == Unresolved()

    def test_of_a_very_deep_tree(self, side: SourceSide, monkeypatch: pytest.MonkeyPatch) -> None:
        """The paths of all levels together would take the square of the depth."""
        scopes = [Scope(at(b"d/e"), deep=False)]
        assert with_directories(scopes) == [only(TOP, b"d"), only(at(b"d"), b"e"), *scopes]
        monkeypatch.setattr("i2core.rule.repair.plan.LEVELS", 1)
        assert with_directories(scopes) == [only(at(b"d"), b"e"), *scopes]


class TestNarrow:
    async def test_leaves_large_files_to_the_caller(self, side: SourceSide) -> None:
        replica = ScriptedReplica()
        replica.verdicts = {b"d/f": Verdict.BLOCKS}
        unresolved, _ = await repaired(side, plan(side.source, [doubt(side, b"d/f")], Extent.NAMES), replica)
        assert [large.place for large in unresolved.large] == [at(b"d/f")]

    async def test_removes_what_a_transfer_has_staged_there(self, side: SourceSide) -> None:
        replica = ScriptedReplica()
        await repaired(side, plan(side.source, [doubt(side, b"d/f"), doubt(side, b"d/e")], Extent.NAMES), replica)
        staged = {record.path for record in replica.sent if record.kind is Kind.REMOVE and record.staged}
        assert staged == {b"d/f", b"d/e"}

    async def test_but_not_that_of_a_running_transfer(self, side: SourceSide) -> None:
        side.catalog.staging.begin(at(b"d/e/new"))
        replica = ScriptedReplica()
        await repaired(side, plan(side.source, [doubt(side, b"d/f"), doubt(side, b"d/e")], Extent.NAMES), replica)
        assert [record.path for record in replica.sent] == [b"d/f"]


class TestFilesWithSeveralNames:
    async def test_a_name_that_is_sent_as_new_is_linked_to_the_others(self, side: SourceSide) -> None:
        os.link(side.path / "d" / "f", side.path / "name")
        rows = side.sent(b"d/f", b"name")
        side.catalog.names.join(rows[1], rows[0])
        replica = ScriptedReplica()
        replica.verdicts = {b"d/f": Verdict.WHOLE}
        planned = plan(side.source, [Doubt(doubt(side, b"d/f").parent, b"f", 0)])
        unresolved, found = await repaired(side, planned, replica)
        assert replica.kinds() == [(Kind.CREATE, b"d/f"), (Kind.LINK, b"name")]
        assert unresolved.touched == [at(b"name")]
        assert b"f" in {each.name for each in found}

    async def test_a_link_that_breaks_after_it_leaves_it_unverified(self, side: SourceSide) -> None:
        os.link(side.path / "d" / "f", side.path / "name")
        side.sent(b"d/f", b"name")
        replica = ScriptedReplica()
        replica.verdicts, replica.cut_at = {b"d/f": Verdict.WHOLE}, Kind.CREATE
        found: dict[Doubt, None] = {}
        with pytest.raises(LinkError):
            await repair(side.source, replica, plan(side.source, [doubt(side, b"d/f")]), found)
        assert b"f" in {each.name for each in found}
        assert b"f" in side.doubts_kept()


async def test_objects_that_cannot_be_read_now_are_reported_with_the_cause(
    side: SourceSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_descriptors(*_: object) -> tuple[int, os.stat_result]:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr("i2core.posix.tree.open_file", out_of_descriptors)
    replica = ScriptedReplica()
    replica.verdicts = {b"d/f": Verdict.WHOLE}
    unresolved, _ = await repaired(side, plan(side.source, [doubt(side, b"d/f")]), replica)
    assert unresolved.unread == {at(b"d/f"): "too many open files"}
