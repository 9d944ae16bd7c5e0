"""A name that goes between its listing and its sending, or comes: what the replica has there is an orphan after all."""

from __future__ import annotations

from pathlib import Path

import pytest

from i2core.config.model import OrphanAction, Orphans
from i2core.testing.trees import compare_trees
from i2core.wire.listing import encode_survey

from .pair import open_nodes


@pytest.mark.parametrize("size", [10, 300_000, 6_000_000])
@pytest.mark.parametrize("action", [OrphanAction.DELETE, OrphanAction.KEEP])
async def test_an_orphan_under_a_name_that_vanished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, action: OrphanAction
) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "name").write_bytes(b"x" * size)
        nodes.target.mkdir(parents=True)
        (nodes.target / "name").symlink_to("somebody else's")

        def encode_and_remove(*arguments: object, **options: object) -> bytes:
            monkeypatch.undo()
            (nodes.source / "name").unlink()
            return encode_survey(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr("i2core.rule.mirror.mirror.encode_survey", encode_and_remove)
        await nodes.run(nodes.rule(orphans=Orphans(action=action)))
        assert (nodes.target / "name").is_symlink() is (action is OrphanAction.KEEP)


async def test_orphans_beneath_a_directory_that_came_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.target / "name" / "orphan").mkdir(parents=True)

        def encode_and_make(*arguments: object, **options: object) -> bytes:
            monkeypatch.undo()
            (nodes.source / "name" / "within").mkdir(parents=True)
            return encode_survey(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr("i2core.rule.mirror.mirror.encode_survey", encode_and_make)
        await nodes.run(nodes.rule(orphans=Orphans(action=OrphanAction.DELETE)))
        assert [path.name for path in (nodes.target / "name").iterdir()] == ["within"]


async def test_the_times_above_a_file_that_became_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "above").mkdir()
        (nodes.source / "above" / "name").write_text("a file")

        def encode_and_change(*arguments: object, **options: object) -> bytes:
            monkeypatch.undo()
            (nodes.source / "above" / "name").unlink()
            (nodes.source / "above" / "name").mkdir()
            (nodes.source / "above" / "name" / "within").write_text("late")
            return encode_survey(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr("i2core.rule.mirror.mirror.encode_survey", encode_and_change)
        await nodes.run()
        assert compare_trees(nodes.source, nodes.target) == []
