"""Losses of a capture are logged with their place, but not repeatedly."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from i2core.api import Change, Code, Lost, Op, Place
from i2core.drivers.scan import SCAN
from i2core.rule.source.source import Source
from i2core.rule.work.loss_log import AGAIN_S, MOST, LossLog

from .pair import open_nodes, until


async def test_a_loss_is_logged_and_its_place_compared(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "dir").mkdir()
        async with nodes.running():
            (nodes.source / "dir" / "unheard").write_text("of")
            nodes.capture.tell(Lost(Place(0, b"dir"), "the event queue overflowed"))
            await until((nodes.target / "dir" / "unheard").exists)
    (line,) = [line for _, code, line in nodes.said if code is Code.CAPTURE_LOST]
    assert line == f"{nodes.source}/dir: the event queue overflowed; the subtree is compared again"


class Bench:
    """The loss log of a rule, with a clock that a test sets."""

    def __init__(self, capture: str = "inotify") -> None:
        self.lines: list[str] = []
        self.now_s = 0.0
        source = SimpleNamespace(
            rule="data1",
            status=SimpleNamespace(capture=capture),
            show=lambda place: f"/s/{place.path.decode()}",
            say=lambda rule, code, line: self.lines.append(line),
        )
        self.losses = LossLog(cast(Source, source), lambda: self.now_s)

    def lose(self, path: bytes, reason: str = "full") -> int:
        """Reports a loss; returns the number of log lines."""
        self.lines.clear()
        changes: list[Any] = [Change(Op.MODIFY, Place(0, b"x")), Lost(Place(0, path), reason)]
        self.losses.log(changes)
        return len(self.lines)


def test_the_same_loss_is_logged_once_an_hour() -> None:
    bench = Bench()
    assert [bench.lose(b"a"), bench.lose(b"a"), bench.lose(b"b"), bench.lose(b"a", "unmounted")] == [1, 0, 1, 1]
    bench.now_s = AGAIN_S
    assert bench.lose(b"a") == 1


def test_the_memory_of_logged_losses_is_bounded() -> None:
    bench = Bench()
    assert sum(bench.lose(b"%d" % number) for number in range(MOST + 1)) == MOST + 1
    assert bench.lose(b"0") == 1


def test_a_scan_has_nothing_to_lose() -> None:
    assert Bench(SCAN.name).lose(b"") == 0
