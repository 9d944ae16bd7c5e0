"""The scrubs of a node's rules: one task for each, as long as the node runs."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from i2core.api import Code, Entry, I2Error, Line, LinkError, Place, in_thread
from i2core.compare.proofs import Held, Proofs
from i2core.compare.reading import Ends
from i2core.compare.scrub import Scrub
from i2core.config.model import Rule, ScrubPlan
from i2core.config.words import bilingual
from i2core.node.daemon.compares import Compares
from i2core.rule.life.report import Say
from i2core.tasks import background

TICK_S = 5.0
"""How often it is looked whether a rule replicates, or a pass is due."""
RETRY_S = 60.0
NOT_SCRUBBED: dict[str, Any] = {"proved_at": None, "held_back": None, "scrub": None}
"""The figures of a rule without a scrub."""


@attrs.define
class _One:
    """The scrub of one rule."""

    proofs: Proofs
    scrub: Scrub
    wanted: trio.Event = attrs.field(factory=trio.Event)
    """Somebody wants a pass now."""
    said: str = ""
    """The problem that was logged last."""


class Scrubs:
    """Scrubs the rules whose config says so. What a rule holds back stays held back without that."""

    def __init__(self, directory: Path, compares: Compares, say: Say) -> None:
        """`directory`: where the memories are; it may be missing."""
        self._directory = directory
        self._compares = compares
        self._say = say
        self._rules: dict[str, _One] = {}

    def holds_back(self, rule: str, place: Place, entry: Entry) -> bool:
        """As `Source.holds_back`; from any thread."""
        one = self._rules.get(rule)
        return one is not None and one.proofs.holds(place, entry)

    def open(self, rule: str) -> None:
        """Reads what is remembered of a rule, if there is anything; blocks. A damaged memory is made anew."""
        if rule not in self._rules and self._path(rule).exists():
            self._rules[rule] = self._made(rule)

    def figures(self, rule: str) -> dict[str, Any]:
        """For the rule's status: the time after which everything was proved equal, in seconds since 1970; how many
        files are held back; the present pass."""
        one = self._rules.get(rule)
        if one is None:
            return NOT_SCRUBBED
        began_ns, done = one.scrub.began_ns, one.scrub.figures
        scrub = None if began_ns is None else {"began_ns": began_ns} | attrs.asdict(done)
        proved_ns = one.scrub.proved_ns
        proved_at = None if proved_ns is None else round(proved_ns / 1e9, 3)
        return {"proved_at": proved_at, "held_back": one.proofs.held_count, "scrub": scrub}

    def held(self, rule: str) -> list[Held]:
        """The files of a rule that are held back; blocks."""
        one = self._rules.get(rule)
        return [] if one is None else one.proofs.held()

    def accept(self, rule: str, places: list[Place]) -> int:
        """The source's content of these files is right after all: it is sent. Returns how many were held back."""
        one = self._rules.get(rule)
        released = [place for place in places if one is not None and one.proofs.release(place)]
        self._compares.ends(rule).work.view.differ(released)
        return len(released)

    def now(self, rule: str) -> bool:
        """Begins a pass now; False: the rule is not scrubbed."""
        one = self._rules.get(rule)
        if one is None:
            return False
        one.wanted.set()
        return True

    async def run(self, rules: Callable[[], tuple[Rule, ...]]) -> None:
        """Scrubs, until cancelled. `rules`: those of the present config."""
        async with background() as nursery:
            begun = set[str]()
            while True:
                for rule in rules():
                    if rule.scrub is not None and rule.name not in begun:
                        begun.add(rule.name)
                        nursery.start_soon(self._keep, rule.name, partial(_plan_of, rules, rule.name))
                await trio.sleep(TICK_S)

    # ------------------------------------------------------------------------------------------ one rule

    async def _keep(self, rule: str, plan: Callable[[], ScrubPlan | None]) -> None:
        if rule not in self._rules:
            self._rules[rule] = await in_thread(self._made, rule)
        one = self._rules[rule]
        while True:
            wait_s = TICK_S
            now = plan()
            if now is not None and self._is_due(one, now):
                try:
                    wait_s = await self._part(rule, one, now)
                except (I2Error, OSError, sqlite3.Error) as error:
                    self._failed(rule, one, error)
                    wait_s = RETRY_S
            with trio.move_on_after(wait_s):
                await one.wanted.wait()

    def _is_due(self, one: _One, plan: ScrubPlan) -> bool:
        if one.wanted.is_set():
            one.wanted = trio.Event()
            one.scrub.begin()
        if one.scrub.began_ns is None:
            last_ns = one.scrub.proved_ns
            if last_ns is not None and 0 <= (time.time_ns() - last_ns) / 1e9 < plan.within_s:
                return False
            one.scrub.begin()
        return True

    async def _part(self, rule: str, one: _One, plan: ScrubPlan) -> float:
        """Scrubs one part; returns how long to wait before the next one."""
        ends: Ends = self._compares.ends(rule)
        if not ends.work.view.replicates:
            return TICK_S
        more = True
        async with self._compares.yielding_turn(rule):
            more = await one.scrub.part(ends, plan)
            one.said = ""
        return 0.0 if more else TICK_S

    def _failed(self, rule: str, one: _One, error: Exception) -> None:
        if isinstance(error, LinkError) or str(error) == one.said:
            return
        one.said = str(error)
        code = error.code if isinstance(error, I2Error) else Code.INTERNAL
        text = bilingual(f"the scrub is interrupted: {error}", f"后台校验中断：{error}")
        self._say(rule, code, Line(text, code=code, obj=rule, cause=text))

    def _path(self, rule: str) -> Path:
        return self._directory / f"{rule}.proofs"

    def _made(self, rule: str) -> _One:
        path = self._path(rule)
        os.makedirs(self._directory, 0o700, exist_ok=True)
        try:
            proofs = Proofs(path)
        except sqlite3.DatabaseError as error:
            cause = bilingual(
                f"what was proved equal is not known any more ({error}); a new pass begins",
                f"已证明一致的内容不再可知（{error}）；将重新校验",
            )
            self._say(rule, Code.CATALOG_DAMAGED, Line(cause, code=Code.CATALOG_DAMAGED, obj=str(path), cause=cause))
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{path}{suffix}")
            proofs = Proofs(path)
        return _One(proofs, Scrub(proofs, self._say))


def _plan_of(rules: Callable[[], tuple[Rule, ...]], name: str) -> ScrubPlan | None:
    return next((rule.scrub for rule in rules() if rule.name == name), None)
