"""A file system is mounted inside of a replica, and is in the way of a removal."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import trio

from i2core.api import Change, Code, Op, Place
from i2core.testing.trees import compare_trees

from .pair import open_nodes, until

pytestmark = pytest.mark.root


async def test_what_the_message_advises_works(tmp_path: Path) -> None:
    """The rule has written there, and keeps running while an administrator unmounts it."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "d").mkdir()
        point = nodes.target / "d"
        async with nodes.running() as status:
            await trio.run_process(["mount", "-t", "tmpfs", "none", str(point)])
            try:
                (nodes.source / "d" / "file").write_text("on the mount")
                nodes.capture.tell(Change(Op.CREATE, Place(0, b"d/file")))
                await until((point / "file").exists)
                shutil.rmtree(nodes.source / "d")
                nodes.capture.tell(Change(Op.REMOVE, Place(0, b"d")))
                await until(lambda: bool(status.doubtful) and Code.REPLICATE_FILE in nodes.codes())
                assert any("unmount it" in line for _, code, line in nodes.said if code is Code.REPLICATE_FILE)
                await until(lambda: subprocess.run(["umount", point], check=False).returncode == 0)  # noqa: S603, S607
                await until(lambda: compare_trees(nodes.source, nodes.target) == [] and not status.doubtful)
            finally:
                subprocess.run(["umount", "-l", point], check=False)  # noqa: S603, S607
