"""Both names of one file are taken by other files before anyone looks."""

from __future__ import annotations

import os
from pathlib import Path

from i2core.api import Change, Op, Place
from i2core.testing.trees import compare_trees

from .pair import open_nodes, until


async def test_both_names_of_a_file_are_replaced(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        one, other = nodes.source / "one", nodes.source / "other"
        one.write_bytes(b"shared")
        os.link(one, other)
        async with nodes.running():
            for name in (one, other):
                fresh = nodes.source / "fresh"
                fresh.write_bytes(b"now of its own: " + os.fsencode(name.name))
                fresh.replace(name)
            nodes.capture.tell(*(Change(Op.MODIFY, Place(0, name)) for name in (b"one", b"other")))
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
