"""The part of the control API that compares the rules of this node.

    POST /v1/rules/NAME/compares          begins a compare, and answers {"task"}; its body is a JSON object:
             "strict": true               contents are compared as well
             "mend": true                 what is missing or different is sent
             "paths": [PATH, …]           only these
             "when": MOMENT               it begins then; default: now
    GET  /v1/rules/NAME/compares          those that are remembered, the latest first: `Task.as_json`
    GET  /v1/rules/NAME/compares/NUMBER   the objects that one has found: {"task", "items", "after"}
             ?kind=missing,different,…    only these; default: missing,different,extra
             &after=NUMBER&limit=N        the next ones

Progress and totals are those of the task (`/v1/tasks`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from i2core.api import UsageError, in_thread
from i2core.compare.places import source_path
from i2core.compare.result import DIFFERENCES, Item, Kind, Result
from i2core.config.words import bilingual
from i2core.history.moments.text import parse_moment
from i2core.history.moments.zones import zone_or_local
from i2core.node.daemon.answers import Document, asked_of, body_of, number, rule_name
from i2core.node.daemon.compares import Asked, unknown_result
from i2core.node.daemon.running import RunningNode

PAGE, MOST = 100, 10_000


@attrs.frozen(kw_only=True)
class Body:
    """The body of the question."""

    strict: bool = False
    mend: bool = False
    paths: list[str] = attrs.field(factory=list)
    when: str | None = None


def compare_routes(node: RunningNode) -> list[Route]:
    """What the API answers about compares."""
    asked = _Compares(node)
    path = "/v1/rules/{name:path}/compares"
    return [
        Route(path, asked.begin, methods=["POST"]),
        Route(path, asked.list),
        Route(path + "/{number:int}", asked.show),
    ]


class _Compares:
    """One method for each path."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node

    async def begin(self, request: Request) -> Response:
        name, body = self._node.sent_rule(rule_name(request)), body_of(await request.body(), Body)
        when_ns = None
        if body.when is not None:
            when_ns = parse_moment(body.when, work_zone=zone_or_local(""), now_ns=time.time_ns())
        asked = Asked(strict=body.strict, mend=body.mend, paths=body.paths, when_ns=when_ns)
        task = await self._node.compares.begin(name, asked)
        return Document({"task": task.ident})

    async def list(self, request: Request) -> Response:
        name = self._node.sent_rule(rule_name(request))
        return Document([task.as_json() for task in self._node.compares.of(name)])

    async def show(self, request: Request) -> Response:
        name, asked = self._node.sent_rule(rule_name(request)), asked_of(request)
        ident: int = request.path_params["number"]
        task = next((task for task in self._node.compares.of(name) if task.ident == ident), None)
        path = None if task is None else self._node.compares.path_of(task)
        if task is None or path is None:
            raise unknown_result(ident)
        kinds = _kinds(asked["kind"]) if "kind" in asked else DIFFERENCES
        after = number(asked, "after", 0, 0, 1 << 62) or 0
        limit = number(asked, "limit", PAGE, 1, MOST) or PAGE
        found = await in_thread(items_of, path, kinds, after, limit)
        rule = next(rule for rule in self._node.config.rules if rule.name == name)
        items = [item.as_json(source_path(rule.pairs, item.place)) for _, item in found]
        more = found[-1][0] if len(found) == limit else None
        return Document({"task": task.as_json(), "items": items, "after": more})


def items_of(path: Path, kinds: Sequence[Kind], after: int, limit: int) -> list[tuple[int, Item]]:
    """A page of a kept result; blocks.

    Raises:
        UsageError: the result is not kept any more.
    """
    if not path.exists():
        raise UsageError(
            bilingual("the objects of this compare are not kept any more", "该次比较的对象列表已不再保留"),
            next_step=bilingual("compare again", "请重新比较"),
        )
    result = Result(path)
    try:
        return result.page(kinds, after=after, most=limit)
    finally:
        result.close()


def _kinds(text: str) -> list[Kind]:
    try:
        return [Kind(word) for word in text.split(",")]
    except ValueError:
        known = ", ".join(kind.value for kind in Kind)
        raise UsageError(bilingual(f"must be some of {known}", f"必须是其中的：{known}"), obj="kind") from None
