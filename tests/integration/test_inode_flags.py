"""Without the option, inode flags that chattr sets are not replicated: this is logged once for each flag."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from i2core.api import Change, Code, Op, Place
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until


def chattr(flag: str, path: Path) -> None:
    """Sets or clears a flag; skips the test if the file system has none."""
    done = subprocess.run(["chattr", flag, path], check=False, capture_output=True)  # noqa: S603, S607
    if done.returncode:
        pytest.skip(f"chattr {flag} does not work here: {done.stderr!r}")


def named(nodes: Nodes) -> list[str]:
    """The log lines about flags."""
    return [
        line.partition("(")[0].rpartition(": ")[2].strip() for _, code, line in nodes.said if code == Code.FLAGS_LEFT
    ]


async def test_flags_are_named_once(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        for name in ("one", "two"):
            (nodes.source / name).write_text("content")
            chattr("+d", nodes.source / name)
        (nodes.source / "dir").mkdir()
        chattr("+A", nodes.source / "dir")
        async with nodes.running():
            assert nodes.codes().count(Code.FLAGS_LEFT) == 2
            assert sorted(named(nodes)) == ["+A", "+d"]
            (nodes.source / "fresh").write_text("content")
            chattr("+Sd", nodes.source / "fresh")
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"fresh")))
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
            assert sorted(named(nodes)) == ["+A", "+S", "+d"]


@pytest.mark.root
async def test_immutable_files_are_replicated(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("content")
        (nodes.source / "log").write_text("content")
        try:
            chattr("+i", nodes.source / "file")
            chattr("+a", nodes.source / "log")
            await nodes.run()
            assert compare_trees(nodes.source, nodes.target) == []
            assert {letter for line in named(nodes) for letter in line} == {"+", "i", "a"}
        finally:
            chattr("-i", nodes.source / "file")
            chattr("-a", nodes.source / "log")
