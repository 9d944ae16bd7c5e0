"""Unchanged objects cost no records, and nothing on the replica is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from i2core.api import Change, Lost, Op, Place
from i2core.config.model import MirrorOptions, Verify

from .pair import open_nodes, until

LARGE = 3_000_000


def fill(top: Path) -> None:
    """Creates objects of every type, in several directories."""
    (top / "tree" / "deeper").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "tree" / "file").write_text("content")
    (top / "tree" / "blocks").write_bytes(b"b" * 200_000)
    (top / "tree" / "large").write_bytes(os.urandom(LARGE))
    (top / "sparse").touch()
    os.truncate(top / "sparse", LARGE)
    (top / "link").symlink_to("nowhere")
    os.mkfifo(top / "fifo")
    for name in ("tree/file", "tree/large", "link", "fifo"):
        os.link(top / name, top / "tree" / "deeper" / Path(name).name, follow_symlinks=False)


def changes(top: Path) -> dict[str, int]:
    """The change time of each object."""
    found = [top, *top.rglob("*")]
    return {str(path.relative_to(top)): path.lstat().st_ctime_ns for path in found}


@pytest.mark.parametrize("verify", list(Verify))
@pytest.mark.parametrize("keep", [True, False], ids=["known", "forgotten"])
async def test_a_mirror_of_what_is_there(tmp_path: Path, verify: Verify, keep: bool) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        await nodes.run(keep=keep)
        before = changes(nodes.target)
        status = await nodes.run(nodes.rule(mirror=MirrorOptions(verify=verify)))
        assert changes(nodes.target) == before
        assert (status.sent_files, status.sent_bytes) == (0, 0)


async def test_a_mirror_of_another_directory_beside(tmp_path: Path) -> None:
    """Only the changed directory is written, not the others."""
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        await nodes.run()
        before = changes(nodes.target)
        with (nodes.source / "tree" / "large").open("r+b") as file:
            file.write(b"changed")
        await nodes.run(nodes.rule(mirror=MirrorOptions(verify=Verify.STRICT)))
        after = changes(nodes.target)
        changed = {name for name in after if after[name] != before[name]}
        assert changed - {"tree/deeper"} == {"tree", "tree/large", "tree/deeper/large"}


async def test_scans_and_hints_of_nothing(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        names = [b"", b"tree", b"tree/file", b"tree/deeper/large", b"link", b"fifo", b"sparse", b"empty"]
        async with nodes.running() as status:
            await until(lambda: status.settled_ns > 0)
            before = changes(nodes.target)
            for number in range(3):
                marker = Path("empty") / str(number)
                (nodes.source / marker).touch()
                nodes.capture.tell(Lost(Place(0, b""), "scan"), *(Change(Op.ATTRIB, Place(0, name)) for name in names))
                await until((nodes.target / marker).exists)
            after = changes(nodes.target)
            assert {name for name in before if after[name] != before[name]} == {"empty"}
