"""What the backup node could not keep in step is named and left out, and the next start of the rule brings it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from i2core.api import Change, Code, Op, Place
from i2core.testing.trees import compare_trees

from .pair import open_nodes, until


def chattr(flag: str, path: Path) -> None:
    """Sets a flag of the file system."""
    subprocess.run(["chattr", flag, path], check=True)  # noqa: S603, S607


@pytest.mark.root
async def test_what_was_left_out_comes_with_the_next_start(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        above = nodes.source / "dir"
        above.mkdir()
        (above / "old").touch()
        async with nodes.running() as status:
            chattr("+i", nodes.target / "dir")
            try:
                (above / "new").write_text("new")
                nodes.capture.tell(Change(Op.CREATE, Place(0, b"dir/new")))
                await until(lambda: status.skipped_count > 0)
                assert Code.OPEN_REPLICA in nodes.codes()
            finally:
                chattr("-i", nodes.target / "dir")
        async with nodes.running():
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
        assert nodes.codes().count(Code.MIRROR_DONE) == 2
        async with nodes.running():
            pass
        assert nodes.codes().count(Code.MIRROR_DONE) == 2
