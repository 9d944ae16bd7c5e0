"""A rule with a history: every moment of its replica reads as it was."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from i2core.config.model import CdpRetention
from tests.pictures import Picture, differing, past_picture, picture
from tests.work_on_files import Worker

if TYPE_CHECKING:
    from tests.conftest import OpenPair, Pair


async def _check(pair: Pair, right: dict[int, Picture]) -> None:
    async with pair.service.history("tested") as history:
        for seq, was in right.items():
            found = await trio.to_thread.run_sync(past_picture, history.tree(0, seq))
            lines = differing(found, was)
            assert not lines, f"moment {seq} of {history.seq}: " + "\n".join(lines[:20])


async def _moment(pair: Pair, right: dict[int, Picture]) -> None:
    """The replica at rest, and what it is called in the history."""
    await pair.settle()
    lines = differing(picture(pair.targets[0]), picture(pair.sources[0]))
    assert not lines, "\n".join(lines)
    async with pair.service.history("tested") as history:
        right[history.seq] = await trio.to_thread.run_sync(picture, pair.targets[0])


@pytest.mark.parametrize("seed", range(3))
async def test_every_moment_reads_as_it_was(open_pair: OpenPair, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 (a seed, not a secret)
    right: dict[int, Picture] = {}

    def prepare(sources: list[Path]) -> None:
        Worker(rng, sources[0]).do(60)

    async with open_pair(prepare=prepare, cdp=CdpRetention()) as pair:
        worker = Worker(rng, pair.sources[0])
        for number in range(6):
            await trio.to_thread.run_sync(worker.do, 25)
            if number == 2:
                await pair.restart_backup()
            if number == 4:
                pair.cut()
            await _moment(pair, right)
        assert len(right) == 6
        await _check(pair, right)
        await pair.restart_backup()
        await _check(pair, right)
