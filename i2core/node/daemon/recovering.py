"""A recovery from the history of a received rule, to whichever node: shared by control API and recovery port."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import trio

from i2core.api import UsageError, in_thread
from i2core.config.words import bilingual
from i2core.node.daemon.past_state import Chosen, PastState
from i2core.recovery.end import End
from i2core.recovery.engine import Recovery
from i2core.recovery.order import Extra, Order
from i2core.recovery.outcome import Phase, Progress
from i2core.recovery.parts import Part, Root, parts_of
from i2core.recovery.plan import Item, Plan
from i2core.rule.life.report import Say
from i2core.tasks import background

LISTED = 1000
"""Names of a plan that its result has."""
_LISTED_BYTES = 128 * 1024
_REPORT_S = 0.5
Show = Callable[[Mapping[str, Any]], None]


@attrs.frozen(kw_only=True)
class Wanted:
    """What is to be recovered, and how."""

    paths: Sequence[str] = ()
    """As on either node; empty: everything."""
    root: bytes = b""
    """Only this one of the rule's directories, as the work node calls it; empty: all."""
    extra: Extra = Extra.KEEP
    strict: bool = False
    prove: bool = True
    dry_run: bool = False


def waiting(began_s: float) -> dict[str, Any]:
    """The progress of a recovery that has not begun; `began_s`: trio's clock when it was asked for."""
    progress = Progress(Phase.WAITING, 0, 0, 0, 0, False, 0, 0, trio.current_time() - began_s)
    return progress.as_json()


async def bring_back(
    state: PastState, wanted: Wanted, chosen: Chosen, end: End, *, place: Path, say: Say, show: Show
) -> dict[str, Any]:
    """Recovers an open state, or plans that; the result for JSON. `place`: as `tried.place_of`.

    Raises:
        I2Error: as `Recovery.plan` and `Recovery.run`.
    """
    order = Order(
        rule=state.rule.rule,
        moment=chosen.moment,
        parts=await in_thread(_parts, wanted, state),
        extra=wanted.extra,
        strict=wanted.strict,
        prove=wanted.prove,
    )
    recovery = Recovery(order, end, place=place, say=say)
    async with background() as nursery:
        nursery.start_soon(report, recovery, show)
        if wanted.dry_run:
            return await _planned(recovery) | chosen.as_json()
        outcome = await recovery.run()
    show(recovery.progress().as_json())
    return outcome.as_json() | chosen.as_json()


def _parts(wanted: Wanted, state: PastState) -> list[Part]:
    rule = state.rule
    named = [rule.named(number) for number in range(len(state.trees))]
    roots = [
        Root(tree=tree, path=path) for tree, path in zip(state.trees, named, strict=True) if wanted.root in (b"", path)
    ]
    if not roots:
        cause = bilingual("the rule has no such directory there", "该规则在灾备机上没有该目录")
        raise UsageError(cause, obj=os.fsdecode(wanted.root))
    places = [rule.place(path) for path in wanted.paths]
    return parts_of(roots, [os.path.join(rule.named(place.root), place.path) for place in places])


async def report(recovery: Recovery, show: Show) -> None:
    """Shows how far a recovery is, until cancelled."""
    while True:
        show(recovery.progress().as_json())
        await trio.sleep(_REPORT_S)


async def _planned(recovery: Recovery) -> dict[str, Any]:
    plan = await recovery.plan()
    try:
        items = await in_thread(plan.page, 0, LISTED)
    finally:
        await in_thread(plan.close)
    return _plan_json(plan, items)


def _plan_json(plan: Plan, items: list[Item]) -> dict[str, Any]:
    listed, size = [], 0
    for item in items:
        size += len(item.path)
        if size > _LISTED_BYTES:
            break
        listed.append({**item._asdict(), "path": os.fsdecode(item.path), "what": item.what.value})
    return {
        "files": plan.files,
        "bytes": plan.bytes,
        "equal": plan.equal,
        "totals": {what.value: attrs.asdict(total) for what, total in plan.totals.items() if total.count},
        "items": listed,
    }
