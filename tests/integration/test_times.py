"""Times that do not fit in 64 bits of nanoseconds, as far as the file system of the test can store them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from i2core.api import Change, Op, Place

from .pair import Nodes, open_nodes, until

YEAR_S = 31_556_952
TIMES_S = {"1000": -970 * YEAR_S, "1900": -70 * YEAR_S, "2300": 330 * YEAR_S, "2440": 470 * YEAR_S, "far": 1 << 40}
KINDS = ("file", "large", "directory", "link", "fifo")


def make(top: Path) -> None:
    """One object of each kind for each time."""
    for word in TIMES_S:
        (top / f"file {word}").write_text(word)
        (top / f"large {word}").write_bytes(word.encode() * 600_000)
        (top / f"directory {word}").mkdir()
        (top / f"link {word}").symlink_to(word)
        os.mkfifo(top / f"fifo {word}")


def date(top: Path, shift: int = 0) -> None:
    """Sets the time of each object."""
    for word, second in TIMES_S.items():
        for kind in KINDS:
            time_ns = (second + shift) * 10**9 + 987_654_321
            os.utime(top / f"{kind} {word}", ns=(time_ns, time_ns), follow_symlinks=False)


def times(top: Path) -> dict[str, int]:
    """The times of all of them, as the file system has stored them."""
    names = [f"{kind} {word}" for kind in KINDS for word in TIMES_S]
    return {name: (top / name).lstat().st_mtime_ns for name in names}


def places(nodes: Nodes) -> list[Change]:
    """A hint for each object."""
    return [Change(Op.ATTRIB, Place(0, name.encode())) for name in times(nodes.source)]


@pytest.mark.parametrize("first", [False, True], ids=["catalog", "anew"])
async def test_a_mirror_keeps_them(tmp_path: Path, first: bool) -> None:
    async with open_nodes(tmp_path) as nodes:
        make(nodes.source)
        date(nodes.source)
        os.utime(nodes.source, ns=(10**9 * TIMES_S["2300"],) * 2)
        await nodes.run()
        assert times(nodes.target) == times(nodes.source)
        assert nodes.target.stat().st_mtime_ns == nodes.source.stat().st_mtime_ns
        again = await nodes.run(keep=not first)
        assert (again.sent_files, again.sent_bytes) == (0, 0)
        date(nodes.source, 7)
        await nodes.run()
        assert times(nodes.target) == times(nodes.source)


async def test_live_replication_keeps_them(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        make(nodes.source)
        async with nodes.running():
            for shift in (0, 9):
                date(nodes.source, shift)
                nodes.capture.tell(*places(nodes))
                await until(lambda: times(nodes.target) == times(nodes.source))
            (nodes.source / "later").write_text("later")
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"later")))
            await until((nodes.target / "later").exists)
