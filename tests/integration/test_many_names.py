"""A replica with more names than fit in one answer or in memory: every orphan is found."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from i2_filter_glob.plugin import i2_filters
from i2_sink_fs import reading

from i2core.api import Change, Op, Place
from i2core.api import names as names_module
from i2core.api.names import NAME_COST
from i2core.config.model import DriverChoice, OrphanAction, Orphans
from i2core.rule.backup.session import unlisted
from i2core.rule.survey import lister
from i2core.testing.trees import compare_trees
from i2core.wire import questions
from i2core.wire.frame import FrameType

from .pair import Nodes, open_nodes

DELETE = Orphans(action=OrphanAction.DELETE)
EACH = NAME_COST + 10


@pytest.fixture(autouse=True, params=["answers", "directories"])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer has room for only few orphans; or the directories themselves are too large to be remembered."""
    monkeypatch.setattr(names_module, "PAGE_BYTES", 7 * EACH)
    monkeypatch.setattr(unlisted, "ANSWER_BYTES", 10 * EACH)
    monkeypatch.setattr(questions, "ORPHANS_LIMIT", 5 * 700)
    monkeypatch.setattr(lister, "CHUNK_ENTRIES", 8)
    if request.param == "directories":
        monkeypatch.setattr(reading, "NAMES_BYTES", 9 * EACH)


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    """A mirrored tree, and other files on the replica in large and small directories."""
    async with open_nodes(tmp_path, *i2_filters()) as nodes:
        for directory in ("a", "b", "c", "c/d", "."):
            (nodes.source / directory).mkdir(exist_ok=True)
            for number in range(20):
                (nodes.source / directory / f"file{number:02}").write_text("content")
        await nodes.run()
        for directory, count in (("a", 50), ("b", 1), ("c/d", 12), (".", 9)):
            for number in range(count):
                (nodes.target / directory / f"extra{number:02}").write_text("foreign")
        (nodes.target / "foreign" / "below").mkdir(parents=True)
        for number in range(30):
            (nodes.target / "foreign" / "below" / f"x{number:02}").write_text("foreign")
        yield nodes


async def test_all_of_them_are_removed(nodes: Nodes) -> None:
    await nodes.run(nodes.rule(orphans=DELETE))
    assert compare_trees(nodes.source, nodes.target) == []


async def test_all_of_them_are_kept_and_counted(nodes: Nodes) -> None:
    await nodes.run()
    (status,) = nodes.service.statuses()
    assert status.orphans == 50 + 1 + 12 + 9 + 1
    assert (nodes.target / "a" / "extra49").exists()
    assert (await nodes.run()).sent_files == 0


async def test_what_the_rule_excludes_stays(nodes: Nodes) -> None:
    excluding = nodes.rule(orphans=DELETE, filters=(DriverChoice(name="glob", options={"exclude_types": ("*7",)}),))
    await nodes.run(excluding)
    left = {path.name for path in nodes.target.rglob("*") if path.name.startswith(("extra", "x"))}
    assert left == {"extra07", "extra17", "extra27", "extra37", "extra47", "x07", "x17", "x27"}


@pytest.mark.parametrize("action", [OrphanAction.KEEP, OrphanAction.DELETE])
async def test_staging_files_beneath_one_of_them_are_removed(nodes: Nodes, action: OrphanAction) -> None:
    await nodes.stage("staged/large")
    shutil.rmtree(nodes.source / "staged")
    await nodes.run(nodes.rule(orphans=Orphans(action=action)), keep=False)
    assert (nodes.target / "staged").exists() == (action is OrphanAction.KEEP)
    assert nodes.private() == []


@pytest.mark.parametrize("again", ["another", "none"])
async def test_a_directory_moves_before_its_names_are_asked_for(tmp_path: Path, again: str) -> None:
    """What was sent moves with the directory on the replica. Looked for in the directory that has the name now, all of
    it would be missing, and be removed with the orphans, while the catalog has it."""
    async with open_nodes(tmp_path) as nodes:
        here, moved = nodes.source / "a", nodes.source / "moved"
        here.mkdir()
        (nodes.target / "a").mkdir(parents=True)
        for number in range(20):
            (here / f"file{number:02}").write_text("content")
            (nodes.target / "a" / f"extra{number:02}").write_text("foreign")

        def move() -> None:
            here.rename(moved)
            changes = [Change(Op.RENAME, Place(0, b"a"), is_dir=True, to=Place(0, b"moved"))]
            if again == "another":
                here.mkdir()
                (here / "new").write_text("new")
                changes.append(Change(Op.CREATE, Place(0, b"a"), is_dir=True))
            nodes.capture.tell(*changes)

        nodes.wire.before_frame[FrameType.NAMES] = move
        await nodes.run(nodes.rule(orphans=DELETE))
        assert compare_trees(nodes.source, nodes.target) == []
