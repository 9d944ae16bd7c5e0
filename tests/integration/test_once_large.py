"""A run that is to end, with a large file whose transfer is interrupted: it ends only when the file is replicated."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from i2core.api import Change, Op, Place
from i2core.testing.trees import compare_trees
from i2core.wire.frame import FrameType

from .pair import Nodes, open_nodes

LARGE = 12 << 20


def change_behind_the_mirror(nodes: Nodes, calls: int) -> None:
    """When the mirror is done, the whole file changes, and the link breaks so many calls after its first batch."""

    def cut() -> None:
        nodes.wire.cut_at = nodes.wire.sends + calls

    def change() -> None:
        (nodes.source / "large").write_bytes(os.urandom(LARGE))
        nodes.capture.tell(Change(Op.MODIFY, Place(0, b"large")))
        nodes.wire.before_frame[FrameType.BATCH] = cut

    nodes.wire.before_close.append(change)


@pytest.mark.parametrize("calls", [0, 3, 5])
async def test_an_interrupted_transfer_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    monkeypatch.setattr("i2core.rule.work.runner.BACKOFF_S", (0.02, 0.1))
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "large").write_bytes(os.urandom(LARGE))
        change_behind_the_mirror(nodes, calls)
        await nodes.run()
        assert nodes.wire.was_cut()
        assert compare_trees(nodes.source, nodes.target) == []


async def test_the_directory_of_a_large_file_has_its_times(tmp_path: Path) -> None:
    """Publishing a file changes the times of its directory on the replica: they are set before the run ends."""
    async with open_nodes(tmp_path) as nodes:
        directory = nodes.source / "d"
        directory.mkdir()

        def make() -> None:
            (directory / "large").write_bytes(os.urandom(LARGE))
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"d/large")))

        nodes.wire.before_close.append(make)
        await nodes.run()
        assert compare_trees(nodes.source, nodes.target) == []


async def test_other_names_of_a_large_file(tmp_path: Path) -> None:
    """They are checked when it is done, and the run waits for this as well."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "large").write_bytes(os.urandom(LARGE))

        def link() -> None:
            os.link(nodes.source / "large", nodes.source / "other")
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"other")))
            (nodes.source / "large").write_bytes(os.urandom(LARGE))
            nodes.capture.tell(Change(Op.MODIFY, Place(0, b"large")))

        nodes.wire.before_close.append(link)
        await nodes.run()
        assert compare_trees(nodes.source, nodes.target) == []
