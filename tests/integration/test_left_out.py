"""Objects that the backup node could not create are reported, and created as soon as possible, or at the next start."""

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
@pytest.mark.parametrize("restart", [False, True])
async def test_what_an_immutable_directory_refused_is_created_later(tmp_path: Path, restart: bool) -> None:
    async with open_nodes(tmp_path) as nodes:
        above = nodes.source / "dir"
        above.mkdir()
        (above / "old").touch()
        async with nodes.running():
            chattr("+i", nodes.target / "dir")
            try:
                (above / "new").write_text("new")
                nodes.capture.tell(Change(Op.CREATE, Place(0, b"dir/new")))
                await until(lambda: Code.OPEN_REPLICA in nodes.codes())
            finally:
                chattr("-i", nodes.target / "dir")
            if not restart:
                await until(lambda: compare_trees(nodes.source, nodes.target) == [])
        async with nodes.running():
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
        assert nodes.codes().count(Code.MIRROR_DONE) == 1, "nothing else is compared for it"
