"""Both names of one file are taken by other files before they are checked."""

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


async def test_attributes_that_were_set_by_a_name_that_is_another_file_now(tmp_path: Path) -> None:
    """An editor saves a file right after its mode was set: the mode shows only under the other name."""
    async with open_nodes(tmp_path) as nodes:
        document, link = nodes.source / "document", nodes.source / "link"
        document.write_bytes(b"shared")
        os.link(document, link)
        async with nodes.running():
            document.chmod(0o600)
            os.setxattr(document, "user.note", b"new")
            fresh = nodes.source / "fresh"
            fresh.write_bytes(b"the next text")
            fresh.replace(document)
            hints = (Change(Op.ATTRIB, Place(0, b"document")), Change(Op.CREATE, Place(0, b"fresh")))
            nodes.capture.tell(*hints, Change(Op.RENAME, Place(0, b"fresh"), to=Place(0, b"document")))
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])


async def test_attributes_that_were_set_by_a_name_that_is_gone_now(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        document, link = nodes.source / "document", nodes.source / "link"
        document.write_bytes(b"shared")
        os.link(document, link)
        async with nodes.running():
            document.chmod(0o600)
            document.unlink()
            nodes.capture.tell(*(Change(op, Place(0, b"document")) for op in (Op.ATTRIB, Op.REMOVE)))
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
