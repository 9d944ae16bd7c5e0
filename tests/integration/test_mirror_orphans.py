"""Objects that only the replica has are kept, deleted or moved as the rule says, and left alone if the rule does not
cover them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from i2_filter_glob.plugin import i2_filters

from i2core.api import Change, Op, Place
from i2core.config.model import DriverChoice, OrphanAction, Orphans

from .pair import Nodes, open_nodes, until

DELETE = Orphans(action=OrphanAction.DELETE)


def names(top: Path) -> set[str]:
    """Every path beneath a directory."""
    return {str(path.relative_to(top)) for path in top.rglob("*")}


async def orphaned(nodes: Nodes) -> None:
    """A replica with more objects than the source."""
    for name in ("keep", "gone", "dir/keep", "dir/gone", "old/a", "old/b/c"):
        path = nodes.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    await nodes.run()
    for name in ("gone", "dir/gone", "old/b/c", "old/a"):
        (nodes.source / name).unlink()
    (nodes.source / "old/b").rmdir()
    (nodes.source / "old").rmdir()


LEFT = {"keep", "dir", "dir/keep"}
GONE = {"gone", "dir/gone", "old", "old/a", "old/b", "old/b/c"}


async def test_orphans_are_kept_and_counted(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        await orphaned(nodes)
        await nodes.run()
        assert names(nodes.target) == LEFT | GONE
        (status,) = nodes.service.statuses()
        assert status.orphans == 3


async def test_orphans_are_deleted(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        await orphaned(nodes)
        await nodes.run(nodes.rule(orphans=DELETE))
        assert names(nodes.target) == LEFT
        assert (await nodes.run(nodes.rule(orphans=DELETE))).sent_files == 0


async def test_orphans_are_moved_with_their_paths(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        await orphaned(nodes)
        aside = nodes.home / "backup" / "aside"
        await nodes.run(nodes.rule(orphans=Orphans(action=OrphanAction.MOVE, to=os.fsencode(aside))))
        assert names(nodes.target) == LEFT
        assert names(aside) == GONE | {"dir"}
        assert (aside / "old/b/c").read_text() == "old/b/c"


async def test_times_of_directories_survive_the_removal_of_orphans(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        await orphaned(nodes)
        await nodes.run(nodes.rule(orphans=DELETE))
        for name in (".", "dir"):
            assert (nodes.source / name).stat().st_mtime_ns == (nodes.target / name).stat().st_mtime_ns


@pytest.mark.parametrize("archive", [True, False])
async def test_a_live_delete_is_archived_when_the_rule_says_so(tmp_path: Path, archive: bool) -> None:
    async with open_nodes(tmp_path) as nodes:
        aside = nodes.home / "backup" / "aside"
        orphans = Orphans(to=os.fsencode(aside) if archive else None, archive=archive)
        (nodes.source / "dir").mkdir()
        for name in ("dir/file", "other"):
            (nodes.source / name).write_text(name)
        async with nodes.running(nodes.rule(orphans=orphans)):
            (nodes.source / "dir/file").unlink()
            nodes.capture.tell(Change(Op.REMOVE, Place(0, b"dir/file")))
            await until(lambda: not (nodes.target / "dir/file").exists())
            (nodes.source / "other").write_text("goes on")
            nodes.capture.tell(Change(Op.MODIFY, Place(0, b"other")))
            await until(lambda: (nodes.target / "other").read_text() == "goes on")
        assert (names(aside) == {"dir", "dir/file"}) if archive else not aside.exists()


async def test_what_is_excluded_is_neither_sent_nor_deleted(tmp_path: Path) -> None:
    async with open_nodes(tmp_path, *i2_filters()) as nodes:
        for name in ("tmp/cache", "a.doc", "b.tmp", "dir/c.tmp"):
            for top in (nodes.source, nodes.target):
                (top / name).parent.mkdir(parents=True, exist_ok=True)
            (nodes.source / name).write_text(name)
        # On the replica only: the rule covers `orphan.doc` alone.
        for name in ("tmp/own", "own.tmp", "orphan.doc", "dir/own.tmp", "gone/own.tmp"):
            (nodes.target / name).parent.mkdir(parents=True, exist_ok=True)
            (nodes.target / name).write_text("on the replica")
        options = {"exclude": (str(nodes.source / "tmp"),), "exclude_types": ("*.tmp",)}
        rule = nodes.rule(filters=(DriverChoice(name="glob", options=options),), orphans=DELETE)
        status = await nodes.run(rule)
        assert status.listed_files == 1
        found = names(nodes.target)
        assert {"a.doc", "tmp", "tmp/own", "own.tmp", "dir/own.tmp"} <= found
        assert not {"orphan.doc", "b.tmp", "tmp/cache", "dir/c.tmp"} & found
        assert "gone/own.tmp" in found


async def test_a_directory_that_only_the_replica_has_keeps_what_the_rule_excludes(tmp_path: Path) -> None:
    """The parent of an excluded path is gone on the source: the excluded objects on the replica are not the rule's."""
    async with open_nodes(tmp_path, *i2_filters()) as nodes:
        (nodes.source / "kept").write_text("kept")
        (nodes.target / "app" / "tmp").mkdir(parents=True)
        (nodes.target / "app" / "tmp" / "own").write_text("on the replica")
        options = {"exclude": (str(nodes.source / "app" / "tmp"),)}
        rule = nodes.rule(filters=(DriverChoice(name="glob", options=options),), orphans=DELETE)
        await nodes.run(rule)
        assert (nodes.target / "app" / "tmp" / "own").exists()
