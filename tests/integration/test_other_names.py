"""Files that change under a name that does not lead to them, with captures that report inode numbers and with
others."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from i2core.api import Change, Op, Place
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until

LOG, LOG_1 = Place(0, b"log"), Place(0, b"log.1")
KNOWN = pytest.mark.parametrize("known", [True, False], ids=["inode", "name"])


@asynccontextmanager
async def watched(home: Path, **names: bytes) -> AsyncIterator[Nodes]:
    """A rule that replicates live, with these files."""
    async with open_nodes(home) as nodes:
        for name, content in names.items():
            (nodes.source / name).write_bytes(content)
        async with nodes.running():
            yield nodes


async def in_step(nodes: Nodes) -> None:
    await until(lambda: compare_trees(nodes.source, nodes.target) == [])


def number(file: int, *, known: bool) -> int:
    """The inode number that the capture reports for an open file."""
    return os.fstat(file).st_ino if known else 0


@KNOWN
@pytest.mark.parametrize("made_again", [False, True])
@pytest.mark.parametrize("late", [False, True])
async def test_a_log_that_is_rotated_by_a_link(tmp_path: Path, known: bool, made_again: bool, late: bool) -> None:
    async with watched(tmp_path, log=b"before\n", other=b"") as nodes:
        source, capture = nodes.source, nodes.capture
        file = os.open(source / "log", os.O_WRONLY | os.O_APPEND)
        inode = number(file, known=known)
        (source / "log.1").hardlink_to(source / "log")
        if not late:
            capture.tell(Change(Op.CREATE, LOG_1, inode=inode))
            await in_step(nodes)
        (source / "log").unlink()
        told = [Change(Op.REMOVE, LOG, inode=inode)]
        if late:
            told = [Change(Op.CREATE, LOG_1, inode=inode), *told]
        if made_again:
            (source / "log").write_bytes(b"new\n")
            told.append(Change(Op.CREATE, LOG))
        capture.tell(*told)
        await in_step(nodes)
        for _ in range(3):
            os.write(file, b"after the rotation\n")
            capture.tell(Change(Op.MODIFY, LOG, inode=inode))
            await in_step(nodes)
        (source / "log.1").rename(source / "log.2")
        capture.tell(Change(Op.RENAME, LOG_1, to=Place(0, b"log.2")))
        os.write(file, b"later\n")
        capture.tell(Change(Op.MODIFY, LOG, inode=inode))
        await in_step(nodes)
        os.close(file)


@KNOWN
async def test_a_name_that_is_gone_before_another_one_is_known(tmp_path: Path, known: bool) -> None:
    async with watched(tmp_path, log=b"before\n") as nodes:
        file = os.open(nodes.source / "log", os.O_WRONLY | os.O_APPEND)
        inode = number(file, known=known)
        os.write(file, b"more\n")
        (nodes.source / "log.1").hardlink_to(nodes.source / "log")
        (nodes.source / "log").unlink()
        nodes.capture.tell(Change(Op.MODIFY, LOG, inode=inode), Change(Op.REMOVE, LOG, inode=inode))
        nodes.capture.tell(Change(Op.CREATE, LOG_1, inode=inode))
        await in_step(nodes)
        for _ in range(2):
            os.write(file, b"after the rotation\n")
            nodes.capture.tell(Change(Op.MODIFY, LOG, inode=inode))
            await in_step(nodes)
        os.close(file)


@KNOWN
async def test_a_file_whose_name_another_one_took(tmp_path: Path, known: bool) -> None:
    async with watched(tmp_path, a=b"a", new=b"new") as nodes:
        source, capture = nodes.source, nodes.capture
        file = os.open(source / "a", os.O_WRONLY)
        inode = number(file, known=known)
        (source / "kept").hardlink_to(source / "a")
        capture.tell(Change(Op.CREATE, Place(0, b"kept"), inode=inode))
        await in_step(nodes)
        (source / "new").rename(source / "a")
        capture.tell(Change(Op.RENAME, Place(0, b"new"), to=Place(0, b"a")))
        await in_step(nodes)
        os.write(file, b"written on")
        capture.tell(Change(Op.MODIFY, Place(0, b"a"), inode=inode))
        await in_step(nodes)
        os.close(file)


async def test_a_file_that_was_opened_without_a_name(tmp_path: Path) -> None:
    """Its events have its inode number as name, with any capture."""
    async with watched(tmp_path) as nodes:
        source, capture = nodes.source, nodes.capture
        file = os.open(source, os.O_TMPFILE | os.O_RDWR, 0o600)
        os.link(f"/proc/self/fd/{file}", source / "named", src_dir_fd=file, follow_symlinks=True)
        capture.tell(Change(Op.CREATE, Place(0, b"named")))
        await in_step(nodes)
        os.write(file, b"content")
        capture.tell(Change(Op.MODIFY, Place(0, b"#%d" % os.fstat(file).st_ino)))
        await in_step(nodes)
        os.close(file)


async def test_a_link_outside_of_the_source(tmp_path: Path) -> None:
    async with watched(tmp_path, file=b"x") as nodes:
        (tmp_path / "outside").hardlink_to(nodes.source / "file")
        inode = (tmp_path / "outside").stat().st_ino
        for content in (b"y", b"a longer one"):
            (tmp_path / "outside").write_bytes(content)
            nodes.capture.tell(Change(Op.MODIFY, Place(0, b""), inode=inode))
            await in_step(nodes)
        (tmp_path / "outside").chmod(0o600)
        nodes.capture.tell(Change(Op.ATTRIB, Place(0, b""), inode=inode), Change(Op.MODIFY, Place(0, b""), inode=1))
        await in_step(nodes)


async def test_a_link_that_was_new_and_is_gone(tmp_path: Path) -> None:
    """Size and time are unchanged; only the inode number leads to the file."""
    async with watched(tmp_path, file=b"xx") as nodes:
        file, link = nodes.source / "file", nodes.source / "link"
        link.hardlink_to(file)
        found = file.stat()
        link.write_bytes(b"yy")
        os.utime(link, ns=(found.st_atime_ns, found.st_mtime_ns))
        link.unlink()
        nodes.capture.tell(
            Change(Op.REMOVE, Place(0, b"link"), inode=found.st_ino),
            Change(Op.CREATE, Place(0, b"link"), inode=found.st_ino),
        )
        await in_step(nodes)


async def test_a_rule_of_one_file_that_changes_under_another_name(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        file = nodes.source / "file"
        file.write_bytes(b"x")
        rule = nodes.rule()
        (pair,) = rule.pairs
        pair = type(pair)(source=pair.source + b"/file", target=pair.target + b"/file")
        rule = nodes.rule(pairs=(pair,))
        async with nodes.running(rule):
            (nodes.source / "beside").hardlink_to(file)
            (nodes.source / "beside").write_bytes(b"other")
            nodes.capture.tell(Change(Op.MODIFY, Place(0, b"beside"), inode=file.stat().st_ino))
            await until(lambda: (nodes.target / "file").read_bytes() == b"other")
