"""Verifies the journals of a backup node in the background, one after the other, within an I/O budget.

When each was proved last is kept in a small file, so that a restart does not begin all of them again.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from i2core.api import Code, I2Error, Line, in_thread
from i2core.config.model import ScrubPlan
from i2core.config.words import bilingual
from i2core.history.journal.verify import fault_text, verify
from i2core.posix.durable import replace_durably

if TYPE_CHECKING:
    from i2core.node.daemon.running import RunningNode

TICK_S = 60.0
_FILE = "journals-proved.json"


class JournalScrub:
    """The scrub of all journals of one node."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / _FILE
        self._proved = _read(self._path)
        self._tried: dict[str, float] = {}
        """By rule: when it was verified last in this run, by trio's clock, whatever came of it."""

    def proved_at(self, peer: str, rule: str) -> float | None:
        """The journal of this rule was proved to be as it was written at some time after this, in seconds since 1970;
        None: never."""
        return self._proved.get(f"{peer}/{rule}")

    async def run(self, node: RunningNode, plan: ScrubPlan) -> None:
        """Verifies, until cancelled."""
        while True:
            for position in [] if node.backup is None else await in_thread(node.backup.positions):
                name = f"{position.peer}/{position.rule}"
                if position.history and position.targets and self._is_due(name, plan):
                    await self.verify(node, name, plan)
            await trio.sleep(TICK_S)

    def _is_due(self, name: str, plan: ScrubPlan) -> bool:
        tried, proved = self._tried.get(name), self._proved.get(name)
        if tried is not None:
            return trio.current_time() - tried >= plan.within_s
        return proved is None or not 0 <= time.time() - proved < plan.within_s

    async def verify(self, node: RunningNode, name: str, plan: ScrubPlan) -> None:
        """Verifies the journal of one rule, ``PEER/RULE``, and logs its faults."""
        self._tried[name], began_s = trio.current_time(), time.time()

        async def pace(read: int) -> None:
            await trio.sleep(read / plan.rate)

        try:
            async with node.past(name) as past:
                faults = await verify(past.history.journal, [past.history.durable.tip], pace=pace)
        except (I2Error, OSError) as error:
            code = error.code if isinstance(error, I2Error) else Code.CDP_READ
            text = bilingual(f"the journal could not be verified: {error}", f"无法验证 CDP 数据：{error}")
            node.logbook.say(name.partition("/")[2], code, Line(text, code=code, obj=name, cause=text))
            return
        for fault in faults:
            cause = fault_text(fault)
            line = Line(cause, code=Code.CDP_INCOMPLETE, obj=name, cause=cause)
            node.logbook.say(name.partition("/")[2], Code.CDP_INCOMPLETE, line)
        if not faults:
            self._proved[name] = round(began_s, 3)
            await in_thread(replace_durably, self._path, json.dumps(self._proved).encode())


def _read(path: Path) -> dict[str, float]:
    """What is kept; nothing if the file is missing or damaged: then all of it is verified again."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: float(at) for name, at in found.items() if isinstance(at, int | float)}
