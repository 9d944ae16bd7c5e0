"""The part of the control API that takes, lists and removes snapshots of received rules.

    GET  /v1/rules/NAME/snapshots                  all, oldest first: `_listed_json`
             ?space=1                              measures the room of each
    POST /v1/rules/NAME/snapshots                  begins to take one, and answers {"task"}; its body: {"tag": TEXT}
    POST /v1/rules/NAME/snapshots/NUMBER/remove    {"number", "done"}: done is False when it was removed before

NAME is RULE or PEER/RULE. The result of the task is the snapshot, as in the list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from i2core.api import UsageError
from i2core.config.words import bilingual
from i2core.history.moments.text import format_moment
from i2core.node.daemon.answers import Document, asked_of, body_of, number, rule_name
from i2core.node.daemon.past import ReceivedRule
from i2core.node.daemon.running import RunningNode
from i2core.rule.backup.entry.rule_snapshots import Listed
from i2core.snapshot.catalog import TAG_CHARS

Show = Callable[[Mapping[str, Any]], None]


@attrs.frozen(kw_only=True)
class Asked:
    """The body of the question."""

    tag: str = ""


def snapshot_routes(node: RunningNode) -> list[Route]:
    """What the API answers about snapshots."""
    asked = _Snapshots(node)
    path = "/v1/rules/{name:path}/snapshots"
    return [
        Route(f"{path}/{{number:int}}/remove", asked.remove, methods=["POST"]),
        Route(path, asked.create, methods=["POST"]),
        Route(path, asked.list),
    ]


class _Snapshots:
    """One method for each path."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node

    async def list(self, request: Request) -> Response:
        space = number(asked_of(request), "space", 0, 0, 1) == 1
        async with self._node.snapshots(rule_name(request)) as (rule, snapshots):
            found = await snapshots.listed(space=space)
        return Document([_listed_json(each, rule) for each in found])

    async def create(self, request: Request) -> Response:
        name, asked = rule_name(request), body_of(await request.body(), Asked)
        if len(asked.tag) > TAG_CHARS or not asked.tag.isprintable():
            raise UsageError(
                bilingual(
                    f"must be a line of at most {TAG_CHARS} printable characters",
                    f"须为不超过 {TAG_CHARS} 个可见字符的一行",
                ),
                obj="tag",
            )
        async with self._node.snapshots(name) as (_, snapshots):  # an unknown rule is told at once
            await snapshots.catalog()
        told = {"tag": asked.tag} if asked.tag else {}
        work = partial(self._create, name, asked.tag)
        task = await self._node.tasks.begin(self._node.nursery, "snapshot", name, told, work)
        return Document({"task": task.ident})

    async def _create(self, name: str, tag: str, show: Show) -> dict[str, Any]:
        async with self._node.snapshots(name) as (rule, snapshots):
            taken = await snapshots.create(tag)
        return _listed_json(Listed(taken, True, 0, None), rule)

    async def remove(self, request: Request) -> Response:
        ident: int = request.path_params["number"]
        async with self._node.snapshots(rule_name(request)) as (_, snapshots):
            done = await snapshots.remove(ident)
        return Document({"number": ident, "done": done})


def _listed_json(listed: Listed, rule: ReceivedRule) -> dict[str, Any]:
    """One snapshot for programs. Times as people write them, in the work node's zone, and in nanoseconds."""
    each = listed.snapshot

    def shown(time_ns: int | None) -> str | None:
        return None if time_ns is None else format_moment(time_ns, rule.zone)

    return {
        "number": each.ident,
        "tag": each.tag,
        "store": each.store,
        "state": each.state.value if listed.is_there is not False or each.state.value != "kept" else "missing",
        "automatic": each.is_automatic,
        "taken": shown(each.taken_ns),
        "taken_ns": each.taken_ns,
        "changed": shown(each.changed_ns),
        "changed_ns": each.changed_ns,
        "seq": each.seq,
        "moment": each.moment,
        "mirroring": each.mirroring,
        "used": listed.used,
        "bytes": listed.bytes,
    }
