"""A doubt that cannot be looked into yet waits, and what it waits for goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio

from i2core.api import Lost, Place
from i2core.rule.live.live import Live
from i2core.rule.live.slices import Slices
from i2core.testing.trees import compare_trees

from .pair import open_nodes, until


async def test_a_directory_in_doubt_that_became_a_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the file is there, the replica has the directory: nothing beneath it can be compared."""
    run, step, lives = Live.run, Slices.step, list[Live]()

    async def running(self: Live, *arguments: object, **options: object) -> None:
        lives.append(self)
        await run(self, *arguments, **options)  # type: ignore[arg-type]

    async def slow(self: Slices) -> None:
        await trio.sleep(0.25)
        await step(self)

    monkeypatch.setattr("i2core.rule.live.live.LONGEST_WAIT_S", 0.2)
    monkeypatch.setattr(Live, "run", running)
    monkeypatch.setattr(Slices, "step", slow)
    async with open_nodes(tmp_path) as nodes:
        name = nodes.source / "name"
        name.mkdir()
        (name / "inside").write_text("content")
        async with nodes.running():
            await until(lambda: bool(lives))
            lives[0].doubt([lives[0]._source.catalog.doubt_at(Place(0, b"name"), deep=True)])
            shutil.rmtree(name)
            name.write_bytes(b"large" * 1_600_000)
            nodes.capture.tell(Lost(Place(0, b""), "on purpose"))
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
