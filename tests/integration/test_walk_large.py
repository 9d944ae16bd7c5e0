"""A large file takes longer than the time between two scans: it is not sent, or read, for ever."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio

from i2core.api import Change, Lost, Op, Place
from i2core.rule.live.large_files import LargeFileQueue
from i2core.rule.source.transfer import Transfer
from i2core.testing.trees import compare_trees

from .pair import open_nodes, until


@pytest.mark.parametrize("changes", [False, True])
async def test_a_file_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: bool) -> None:
    step, begin, begun = LargeFileQueue.step, Transfer._begin, list[Place]()

    async def slow(self: LargeFileQueue) -> None:
        await trio.sleep(0.1)
        await step(self)

    def beginning(self: Transfer) -> bool:
        begun.append(self.place)
        return begin(self)

    monkeypatch.setattr(LargeFileQueue, "step", slow)
    monkeypatch.setattr(Transfer, "_begin", beginning)
    async with open_nodes(tmp_path) as nodes, nodes.running() as status:
        large = nodes.source / "large"
        large.write_bytes(b"large" * 1_600_000)
        nodes.capture.tell(Change(Op.CREATE, Place(0, b"large")))
        await until(lambda: bool(begun))
        if changes:
            with large.open("r+b") as file:
                file.write(b"other")
        nodes.capture.tell(Lost(Place(0, b""), "on purpose"))
        since = time.monotonic_ns()
        await until(lambda: status.settled_ns > since and compare_trees(nodes.source, nodes.target) == [])
        await trio.sleep(0.3)
        assert (len(begun) > 1) == changes


async def test_a_file_of_several_names_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scan finds all of its names unverified. One transfer brings them all."""
    step, begin, begun = LargeFileQueue.step, Transfer._begin, list[Place]()
    async with open_nodes(tmp_path) as nodes:
        names = [nodes.source / name for name in ("a", "b", "c")]
        names[0].write_bytes(b"large" * 8_000_000)
        for name in names[1:]:
            name.hardlink_to(names[0])

        async def slow(self: LargeFileQueue) -> None:
            if len(begun) < 10:
                nodes.capture.tell(Lost(Place(0, b""), "on purpose"))
            await trio.sleep(0.1)
            await step(self)

        def beginning(self: Transfer) -> bool:
            begun.append(self.place)
            return begin(self)

        async with nodes.running() as status:
            await until(lambda: status.settled_ns > 0 and compare_trees(nodes.source, nodes.target) == [])
            monkeypatch.setattr(LargeFileQueue, "step", slow)
            monkeypatch.setattr(Transfer, "_begin", beginning)
            with names[0].open("r+b") as file:
                file.write(b"other")
            nodes.capture.tell(Change(Op.MODIFY, Place(0, b"a")))
            since = time.monotonic_ns()
            await until(lambda: status.settled_ns > since and compare_trees(nodes.source, nodes.target) == [])
            assert len(begun) < 5, "the first scan may come before the file is open"
