"""A recovery from a directory to another one, for tests of the whole engine. The receiving end is in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from i2_sink_fs.plugin import i2_sinks

from i2core.api import Code, DriverKind, DriverSpec, UsageError
from i2core.api.tree import Tree
from i2core.posix.tree import LocalTree
from i2core.recovery.engine import Recovery
from i2core.recovery.local_end import LocalEnd
from i2core.recovery.order import Order
from i2core.recovery.outcome import Outcome
from i2core.recovery.parts import Root, Wants, parts_of, wants_all
from i2core.recovery.plan import Item, What
from i2core.recovery.tried import Tried, read_tried

LIMIT_S = 60.0


class Sinks:
    """The sinks that are installed, as a registry."""

    def driver(self, kind: DriverKind, name: str, /) -> DriverSpec:
        """The driver of that name; `UsageError` when there is none."""
        found = self.drivers(kind).get(name)
        if found is None:
            raise UsageError(f"no {kind.value} {name}")
        return found

    def drivers(self, kind: DriverKind, /) -> Mapping[str, DriverSpec]:
        """All of that kind."""
        return {spec.name: spec for spec in i2_sinks() if spec.kind is kind}


@attrs.define
class Site:
    """Directories for a test: what is recovered, and to where."""

    home: Path
    source: Path = attrs.field(init=False)
    to: Path = attrs.field(init=False)
    said: list[tuple[str, Code | None, str]] = attrs.field(factory=list)
    drivers: Sinks | None = attrs.field(factory=Sinks)

    def __attrs_post_init__(self) -> None:
        self.source, self.to = self.home / "past", self.home / "recovered"
        self.source.mkdir()

    @property
    def place(self) -> Path:
        """Where the records of recoveries are."""
        return self.home / "state" / "recoveries"

    @contextmanager
    def recovery(
        self,
        *chosen: bytes,
        trees: Sequence[Tree] = (),
        moved: Mapping[bytes, bytes] | None = None,
        flags: bool = False,
        wants: Wants = wants_all,
        **options: Any,
    ) -> Iterator[Recovery]:
        """A recovery; `trees` instead of the source."""
        with ExitStack() as stack:
            opened = list(trees)
            if not opened:
                opened = [LocalTree(os.fsencode(self.source), flags=flags)]
                stack.callback(opened[0].close)
            parts = parts_of([Root(tree=tree, path=tree.path, wants=wants) for tree in opened], chosen, moved)
            to = options.pop("to", os.fsencode(self.to))
            forbidden = options.pop("forbidden", ())
            end = LocalEnd(
                to,
                state_dir=self.home / "state",
                place=self.place,
                say=self.say,
                forbidden=forbidden,
                drivers=self.drivers,
            )
            order = Order(rule="data1", moment="a moment", parts=parts, **options)
            yield Recovery(order, end, place=self.place, say=self.say)

    def say(self, rule: str, code: Code | None, line: str) -> None:
        """The log."""
        self.said.append((rule, code, line))

    async def run(self, *chosen: bytes, **options: Any) -> Outcome:
        """Recovers."""
        with self.recovery(*chosen, **options) as recovery, trio.fail_after(LIMIT_S):
            return await recovery.run()

    async def plan(self, *chosen: bytes, **options: Any) -> list[Item]:
        """What would be done."""
        with self.recovery(*chosen, **options) as recovery, trio.fail_after(LIMIT_S):
            plan = await recovery.plan()
        try:
            return plan.page(most=1 << 30)
        finally:
            plan.close()

    async def kinds(self, *chosen: bytes, **options: Any) -> dict[bytes, What]:
        """What would be done, by path."""
        return {item.path: item.what for item in await self.plan(*chosen, **options)}

    def tried(self) -> list[Tried]:
        """The record of recoveries."""
        return read_tried(self.place)

    def private(self) -> list[Path]:
        """The sink's private files at the destination."""
        return list(self.to.rglob(".i2-*"))
