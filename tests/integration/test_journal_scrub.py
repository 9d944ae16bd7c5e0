"""The journals of a backup node are verified in the background; what was changed afterwards is reported."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import trio

from i2core.api import Code
from i2core.config.model import CdpRetention, ScrubPlan
from i2core.node.daemon.journal_scrub import JournalScrub

if TYPE_CHECKING:
    from tests.conftest import OpenPair, Pair

PLAN = ScrubPlan(rate=10**12)
NAME = "work/tested"


class Node:
    """What the scrub needs of a node."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.said: list[tuple[str, Code]] = []
        self.logbook = SimpleNamespace(say=lambda rule, code, line: self.said.append((rule, code)))

    @asynccontextmanager
    async def past(self, name: str) -> AsyncIterator[Any]:
        """The history of the rule."""
        async with self._pair.service.history(name.partition("/")[2]) as history:
            yield SimpleNamespace(history=history)


async def test_a_journal_is_proved_and_damage_is_reported(open_pair: OpenPair, tmp_path: Path) -> None:
    state = tmp_path / "journal-scrub"
    state.mkdir()
    async with open_pair(cdp=CdpRetention()) as pair:
        for number in range(20):
            (pair.sources[0] / "file").write_bytes(b"%d" % number * 5000)
            await pair.settle()
        node: Any = Node(pair)
        scrub = JournalScrub(state)
        await scrub.verify(node, NAME, PLAN)
        assert node.said == []
        proved = scrub.proved_at("work", "tested")
        assert proved is not None
        assert JournalScrub(state).proved_at("work", "tested") == proved

        (found,) = tmp_path.rglob("*.seg")
        await trio.to_thread.run_sync(_damage, found)
        await scrub.verify(node, NAME, PLAN)
        assert ("tested", Code.CDP_INCOMPLETE) in node.said
        assert scrub.proved_at("work", "tested") == proved


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
