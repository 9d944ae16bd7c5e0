"""The part of the control API that brings the past of received rules back.

    POST /v1/rules/NAME/recoveries      begins a recovery, and answers {"task"}; its body is a JSON object:
             "to": DIR                  the destination, an absolute directory of this node
             "at": MOMENT               or "at_seq": NUMBER; default: now. "nearest": "before" | "after"
             "snapshot": NUMBER         this snapshot instead
             "paths": [PATH, …]         only these
             "extra": "keep" | "aside" | "delete"
             "dry_run": true            nothing is written: the result tells what would be done
             "strict": true             contents are compared also where size and time are equal
             "prove": false             nothing is compared afterwards
    GET  /v1/rules/NAME/recoveries      those that were tried, the latest first

NAME is RULE or PEER/RULE. Progress and result are those of the task (`/v1/tasks`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from i2core.api import in_thread
from i2core.node.daemon.answers import Document, body_of, rule_name
from i2core.node.daemon.forbidden import forbidden_places
from i2core.node.daemon.past_state import AtOrSnapshot, Chosen, PastState, choose, opened
from i2core.node.daemon.running import RunningNode
from i2core.recovery.engine import Recovery
from i2core.recovery.local_end import LocalEnd
from i2core.recovery.order import Extra, Order
from i2core.recovery.parts import Root, parts_of
from i2core.recovery.plan import Item, Plan
from i2core.recovery.tried import place_of, read_tried
from i2core.tasks import background

LISTED = 1000
"""Names of a plan that its result has."""
_REPORT_S = 0.5
Show = Callable[[Mapping[str, Any]], None]


@attrs.frozen(kw_only=True)
class Asked(AtOrSnapshot):
    """The body of the question."""

    to: str
    paths: list[str] = attrs.field(factory=list)
    extra: Extra = Extra.KEEP
    dry_run: bool = False
    strict: bool = False
    prove: bool = True


def recovery_routes(node: RunningNode) -> list[Route]:
    """What the API answers about recoveries."""
    asked = _Recoveries(node)
    path = "/v1/rules/{name:path}/recoveries"
    return [Route(path, asked.begin, methods=["POST"]), Route(path, asked.tried)]


class _Recoveries:
    """One method for each path."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node

    async def begin(self, request: Request) -> Response:
        name, asked = rule_name(request), body_of(await request.body(), Asked)
        chosen = await choose(self._node, name, asked)  # what cannot be had is told at once
        work = partial(self._recover, name, asked, chosen)
        told = attrs.asdict(asked, filter=lambda _, value: value not in (None, [], False))
        told |= {"extra": asked.extra.value} | chosen.as_json()
        task = await self._node.tasks.begin(self._node.nursery, "recovery", name, told, work)
        return Document({"task": task.ident})

    async def tried(self, request: Request) -> Response:
        rule = self._node.received(rule_name(request))
        place = place_of(self._node.config.state_dir, rule.peer, rule.rule)
        return Document([attrs.asdict(tried) for tried in await in_thread(read_tried, place)])

    async def _recover(self, name: str, asked: Asked, chosen: Chosen, show: Show) -> dict[str, Any]:
        node = self._node
        async with opened(node, name, chosen) as state:
            order = await in_thread(self._order, asked, state, chosen)
            place = place_of(node.config.state_dir, state.rule.peer, state.rule.rule)
            end = LocalEnd(
                os.fsencode(asked.to),
                state_dir=node.config.state_dir,
                place=place,
                say=node.logbook.say,
                forbidden=forbidden_places(node),
            )
            recovery = Recovery(order, end, place=place, say=node.logbook.say)
            async with background() as nursery:
                nursery.start_soon(report, recovery, show)
                if asked.dry_run:
                    return await _planned(recovery) | chosen.as_json()
                outcome = await recovery.run()
            show(recovery.progress().as_json())
        return outcome.as_json() | chosen.as_json()

    def _order(self, asked: Asked, state: PastState, chosen: Chosen) -> Order:
        rule = state.rule
        roots = [Root(tree=tree, path=rule.named(number)) for number, tree in enumerate(state.trees)]
        places = [rule.place(path) for path in asked.paths]
        return Order(
            rule=rule.rule,
            moment=chosen.moment,
            parts=parts_of(roots, [os.path.join(rule.named(place.root), place.path) for place in places]),
            extra=asked.extra,
            strict=asked.strict,
            prove=asked.prove,
        )


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
    return {
        "files": plan.files,
        "bytes": plan.bytes,
        "equal": plan.equal,
        "totals": {what.value: attrs.asdict(total) for what, total in plan.totals.items() if total.count},
        "items": [{**item._asdict(), "path": os.fsdecode(item.path), "what": item.what.value} for item in items],
    }
