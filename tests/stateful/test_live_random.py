"""Random operations on real source trees, with cuts, restarts, losses and failures: the replica must equal the source.

One seed is one history, as far as the scheduler lets it be. A failure prints the seed, and what was done since the
trees were last equal; ``I2_SEED=n`` runs that seed alone, ``I2_ROUNDS=n`` sets how many bursts it has.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from i2core.api import Place

if TYPE_CHECKING:
    from tests.conftest import OpenPair, Pair

ROOT = os.geteuid() == 0
FANOTIFY = pytest.param("fanotify", marks=pytest.mark.root)
CAPTURES = ["inotify", FANOTIFY, "scan"]
QUICK = range(3)
SLOW = range(100, 103)
HUNTED = range(103, 112)
SILENT = ("map_and_store",)
"""Operations that a scan alone finds."""
LINKING = ("link", "written_then_unlinked")
"""Operations that make names of a file, and log its inode last."""


class Application:
    """The child process that works on the sources."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._answer = b""

    async def work(self, seed: int, count: int, *names: str) -> list[str]:
        """Has the child carry out operations; returns its log."""
        assert self._process.stdin is not None and self._process.stdout is not None
        await self._process.stdin.send_all(" ".join([str(seed), str(count), *names]).encode() + b"\n")
        while b"\n" not in self._answer:
            part = await self._process.stdout.receive_some()
            assert part, "the application ended"
            self._answer += bytes(part)
        line, _, self._answer = self._answer.partition(b"\n")
        log: list[str] = json.loads(line)
        return log


@asynccontextmanager
async def open_application(outside: Path, sources: list[Path]) -> AsyncIterator[Application]:
    outside.mkdir()
    script = Path(__file__).parent / "operations.py"
    process = await trio.lowlevel.open_process(
        [sys.executable, "-I", "-X", "utf8", str(script), str(outside), *map(str, sources)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield Application(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            assert process.stdin is not None and process.stdout is not None
            await process.stdin.aclose()
            await process.stdout.aclose()


class History:
    """One seed: bursts of operations, each with at most one accident, and a check after each."""

    def __init__(self, seed: int, pair: Pair, application: Application, *, by_name: bool) -> None:
        """`by_name`: the capture reports names, without inode numbers."""
        self.log: list[str] = []
        self._by_name = by_name
        self._linked: set[int | None] = set()
        self._random = random.Random(seed)  # noqa: S311 (a seed, not a secret)
        self._pair = pair
        self._application = application
        self._accidents = [self._cut, self._restart_backup, self._restart_work, self._lose, self._fail]

    async def burst(self, *, most: int = 40, accidents: bool = True, names: tuple[str, ...] = ()) -> None:
        """Operations with an accident in the middle; at the end the trees must be equal."""
        self.log = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._work, self._random.randrange(1, most), names)
            if accidents and self._random.random() < 0.6:
                await trio.sleep(self._random.random() * 0.1)
                accident = self._random.choice(self._accidents)
                self.log.append(f"! {accident.__name__}")
                await accident()
        if any(name in SILENT for name in names):
            await self._pair.rescan()
        await self._pair.settle()
        made = [line.split() for line in self.log if line.startswith(LINKING)]
        self._linked |= {int(words[-1]) for words in made if words[-1].isdigit()}
        if self._by_name and self._only_linked_differ():
            await self._pair.rescan()
        await self._pair.check()

    def _only_linked_differ(self) -> bool:
        """True when all differences are in files that once had several names. Events have only names: if a file was
        changed by a new name that is gone before it is checked, only a scan finds the change."""
        found = self._pair.differing_inodes() if self._linked else set()
        return bool(found) and found <= self._linked

    async def _work(self, count: int, names: tuple[str, ...]) -> None:
        while count > 0:
            part = self._random.randrange(1, 12)
            self.log += await self._application.work(self._random.getrandbits(32), min(part, count), *names)
            count -= part
            await trio.sleep(self._random.choice((0, 0, 0.003, 0.03)))

    async def _cut(self) -> None:
        self._pair.cut()

    async def _restart_backup(self) -> None:
        await self._pair.restart_backup()

    async def _restart_work(self) -> None:
        await self._pair.stop_work()
        await self._pair.start_work()

    async def _lose(self) -> None:
        root = self._random.randrange(len(self._pair.sources))
        names = sorted(os.listdir(os.fsencode(self._pair.sources[root])))
        await self._pair.lose(Place(root, self._random.choice([b"", *names])))

    async def _fail(self) -> None:
        chance = self._random.random()
        self._pair.drivers.faults.armed = lambda record: self._random.random() < chance


async def run_history(open_pair: OpenPair, tmp_path: Path, capture: str, seed: int, rounds: int) -> None:
    seed = int(os.environ.get("I2_SEED", seed))
    rounds = int(os.environ.get("I2_ROUNDS", rounds))
    async with (
        open_pair(capture=capture, roots=2) as pair,
        open_application(tmp_path / "outside", pair.sources) as application,
    ):
        history = History(seed, pair, application, by_name=capture != "scan")
        number = 0
        try:
            for number in range(rounds):
                await history.burst(most=8 + 12 * number)
            await history.burst(accidents=False, names=SILENT)
            if rounds > 6:
                await history.burst(most=6, names=("huge", "large", "append", "write_within", "rename"))
        except BaseException:
            print(f"seed {seed}, capture {capture}, burst {number}:", *history.log, sep="\n  ")
            raise


@pytest.mark.parametrize("seed", QUICK)
@pytest.mark.parametrize("capture", CAPTURES)
async def test_a_few_bursts(open_pair: OpenPair, tmp_path: Path, capture: str, seed: int) -> None:
    await run_history(open_pair, tmp_path, capture, seed, rounds=4)


LONG = [
    *(pytest.param(seed, marks=pytest.mark.slow) for seed in SLOW),
    *(pytest.param(seed, marks=pytest.mark.hunt) for seed in HUNTED),
]


@pytest.mark.parametrize("seed", LONG)
@pytest.mark.parametrize("capture", CAPTURES)
async def test_many_bursts(open_pair: OpenPair, tmp_path: Path, capture: str, seed: int) -> None:
    await run_history(open_pair, tmp_path, capture, seed, rounds=12)
