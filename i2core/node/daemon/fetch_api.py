"""The part of the control API that fetches objects of a replica as they are now, whether or not it has a history.

    POST /v1/rules/NAME/fetches   begins to bring them to a directory of this node, and answers {"task"}; its body:
             "to": DIR            an absolute directory of this node
             "paths": [PATH, …]   as they are called on either node

NAME is RULE or PEER/RULE. It is a recovery of the present: progress, result and record are the same.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from i2core.api import Code, I2Error, UsageError, in_thread
from i2core.config.words import bilingual
from i2core.history.moments.text import format_moment
from i2core.node.daemon.answers import Document, body_of, rule_name
from i2core.node.daemon.forbidden import forbidden_places
from i2core.node.daemon.past import ReceivedRule
from i2core.node.daemon.recovering import Show, report
from i2core.node.daemon.running import RunningNode
from i2core.posix.tree import LocalTree
from i2core.recovery.engine import Recovery
from i2core.recovery.local_end import LocalEnd
from i2core.recovery.order import Order
from i2core.recovery.parts import Root, parts_of
from i2core.recovery.tried import place_of
from i2core.tasks import background


@attrs.frozen(kw_only=True)
class Body:
    """The body of the question."""

    to: str
    paths: list[str]


def fetch_routes(node: RunningNode) -> list[Route]:
    """What the API answers about fetches."""
    asked = _Fetches(node)
    return [Route("/v1/rules/{name:path}/fetches", asked.begin, methods=["POST"])]


class _Fetches:
    """One method for each path."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node

    async def begin(self, request: Request) -> Response:
        name, body = rule_name(request), body_of(await request.body(), Body)
        rule = self._node.received(name)
        if not body.paths:
            raise UsageError(bilingual("nothing to fetch is named", "未指明要取回的对象"), obj=name)
        for path in body.paths:
            rule.place(path)  # what cannot be had is told at once
        work = partial(self._fetch, rule, body)
        asked = {"to": body.to, "paths": body.paths}
        task = await self._node.tasks.begin(self._node.nursery, "fetch", name, asked, work)
        return Document({"task": task.ident})

    async def _fetch(self, rule: ReceivedRule, body: Body, show: Show) -> dict[str, Any]:
        node = self._node
        place = place_of(node.config.state_dir, rule.peer, rule.rule)
        with ExitStack() as trees:
            order = await in_thread(_order, rule, body, trees)
            end = LocalEnd(
                os.fsencode(body.to),
                state_dir=node.config.state_dir,
                place=place,
                say=node.logbook.say,
                forbidden=forbidden_places(node),
            )
            recovery = Recovery(order, end, place=place, say=node.logbook.say)
            async with background() as nursery:
                nursery.start_soon(report, recovery, show)
                outcome = await recovery.run()
            show(recovery.progress().as_json())
        return outcome.as_json()


def _order(rule: ReceivedRule, body: Body, trees: ExitStack) -> Order:
    roots = []
    for number, target in enumerate(rule.targets):
        try:
            tree = LocalTree(target)
        except OSError as error:
            raise I2Error(error.strerror or str(error), code=Code.REPLICA_GONE, obj=os.fsdecode(target)) from error
        trees.callback(tree.close)
        roots.append(Root(tree=tree, path=rule.named(number)))
    places = [rule.place(path) for path in body.paths]
    return Order(
        rule=rule.rule,
        moment=format_moment(time.time_ns(), rule.zone),
        parts=parts_of(roots, [os.path.join(rule.named(place.root), place.path) for place in places]),
    )
