"""A doubt that cannot be compared yet waits, and the transfer that it waits for continues."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio

from i2core.api import Lost, Place
from i2core.rule.catalog.rows import Depth
from i2core.rule.live.large_files import LargeFileQueue
from i2core.rule.live.replication import LiveReplication
from i2core.testing.trees import compare_trees

from .pair import open_nodes, until


async def test_an_unverified_directory_becomes_a_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the file is published, the replica has the directory: nothing beneath it can be compared."""
    run, step, lives = LiveReplication.run, LargeFileQueue.step, list[LiveReplication]()

    async def running(self: LiveReplication, *arguments: object, **options: object) -> None:
        lives.append(self)
        await run(self, *arguments, **options)  # type: ignore[arg-type]

    async def slow(self: LargeFileQueue) -> None:
        await trio.sleep(0.25)
        await step(self)

    monkeypatch.setattr("i2core.rule.live.repairer.LONGEST_WAIT_S", 0.2)
    monkeypatch.setattr(LiveReplication, "run", running)
    monkeypatch.setattr(LargeFileQueue, "step", slow)
    async with open_nodes(tmp_path) as nodes:
        name = nodes.source / "name"
        name.mkdir()
        (name / "inside").write_text("content")
        async with nodes.running():
            await until(lambda: bool(lives))
            lives[0].doubt([lives[0]._source.catalog.doubts.at(Place(0, b"name"), Depth.SUBTREE)])
            shutil.rmtree(name)
            name.write_bytes(b"large" * 1_600_000)
            nodes.capture.tell(Lost(Place(0, b""), "on purpose"))
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
