"""Compares the rule of a pair of nodes."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import trio

from i2core.api import Peer, Place
from i2core.compare.comparing import Comparing, Order
from i2core.compare.reading import Ends
from i2core.compare.result import DIFFERENCES, Kind, Result, Totals
from i2core.config.model import Rule
from i2core.rule.work.work_rule import WorkRule

from .pair import LIMIT_S, Nodes


@attrs.define
class Compared:
    """What a compare has found."""

    totals: Totals
    found: dict[str, tuple[Kind, str]]
    """By path: how it differs, and the reasons."""


def ends_of(nodes: Nodes, rule: Rule | None = None) -> Ends:
    """Both sides of the rule."""
    peer = Peer("bak", "127.0.0.1", nodes.ports, None)
    work = WorkRule(rule=rule or nodes.rule(), peer=peer, view=nodes.view)
    return Ends(work=work, drivers=nodes.registry, transport=nodes.wire, state_dir=nodes.home / "work")


async def compare(
    nodes: Nodes, *paths: str, rule: Rule | None = None, strict: bool = False, mend: bool = False
) -> Compared:
    """Compares; `paths` are relative to the source."""
    order = Order(places=[Place(0, os.fsencode(path)) for path in paths], strict=strict, mend=mend)
    result = Result(None)
    try:
        comparing = Comparing(ends_of(nodes, rule), order, result)
        with trio.fail_after(LIMIT_S * 3):
            totals = await comparing.run()
        kinds = (*DIFFERENCES, Kind.UNSETTLED, Kind.UNREADABLE)
        found = {
            os.fsdecode(item.place.path): (item.kind, " ".join(reason.value for reason in item.reasons))
            for _, item in result.page(kinds)
        }
        return Compared(totals, found)
    finally:
        result.close()


def flip(path: Path, at: int = 0) -> None:
    """Changes one byte of a file, and neither its size nor its time."""
    status = path.stat()
    with open(path, "r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
