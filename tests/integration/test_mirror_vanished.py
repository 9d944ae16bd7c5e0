"""A name is removed, or created, between its listing and its sending: the replica's object there is an orphan after
all."""

from __future__ import annotations

from pathlib import Path

import pytest

from i2core.config.model import OrphanAction, Orphans
from i2core.testing.trees import compare_trees
from i2core.wire.frame import FrameType

from .pair import open_nodes


@pytest.mark.parametrize("size", [10, 300_000, 6_000_000])
@pytest.mark.parametrize("action", [OrphanAction.DELETE, OrphanAction.KEEP])
async def test_an_orphan_under_a_name_that_vanished(tmp_path: Path, size: int, action: OrphanAction) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "name").write_bytes(b"x" * size)
        nodes.target.mkdir(parents=True)
        (nodes.target / "name").symlink_to("somebody else's")

        def remove() -> None:
            (nodes.source / "name").unlink()

        nodes.wire.before_frame[FrameType.SURVEY] = remove
        await nodes.run(nodes.rule(orphans=Orphans(action=action)))
        assert (nodes.target / "name").is_symlink() is (action is OrphanAction.KEEP)


async def test_orphans_beneath_a_directory_that_came_meanwhile(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.target / "name" / "orphan").mkdir(parents=True)

        def make() -> None:
            (nodes.source / "name" / "within").mkdir(parents=True)

        nodes.wire.before_frame[FrameType.SURVEY] = make
        await nodes.run(nodes.rule(orphans=Orphans(action=OrphanAction.DELETE)))
        assert [path.name for path in (nodes.target / "name").iterdir()] == ["within"]


async def test_the_times_above_a_file_that_became_a_directory(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "above").mkdir()
        (nodes.source / "above" / "name").write_text("a file")

        def change() -> None:
            (nodes.source / "above" / "name").unlink()
            (nodes.source / "above" / "name").mkdir()
            (nodes.source / "above" / "name" / "within").write_text("late")

        nodes.wire.before_frame[FrameType.SURVEY] = change
        await nodes.run()
        assert compare_trees(nodes.source, nodes.target) == []
