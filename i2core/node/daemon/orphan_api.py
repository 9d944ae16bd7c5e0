"""The part of the control API that shows and removes orphans: names that only the replica of a rule of this node has.

GET  /v1/rules/NAME/orphans           a page of a directory, as the latest compare has found it:
         ?path=PATH                   the directory, as it is on the source; default: the rule's only one
         &after=NAME&limit=N          the names after that one
     {"compared", "compared_ns", "items", "after"}; compared is None when the rule was never compared
POST /v1/rules/NAME/orphans/remove    removes orphans, and answers {"task", "orphans", "bytes"}; its body:
         "paths": [PATH, …]           orphans, or directories: all orphans beneath
         "dry_run": true              nothing is removed, and "task" is None
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

from i2core.api import Place, UsageError, in_thread
from i2core.compare.orphans import Removal, Row, browse, chosen, inside, not_replicating, orphan_above
from i2core.compare.places import place_of, source_path
from i2core.compare.result import Kind, Result
from i2core.config.words import bilingual
from i2core.node.daemon.answers import Document, asked_of, body_of, number, rule_name
from i2core.node.daemon.running import RunningNode
from i2core.node.daemon.tasks import Task
from i2core.posix.path_text import shown
from i2core.tasks import background

PAGE, MOST = 100, 10_000
_REPORT_S = 0.5
Show = Callable[[Mapping[str, Any]], None]


@attrs.frozen(kw_only=True)
class Body:
    """The body of the question."""

    paths: list[str]
    dry_run: bool = False


def orphan_routes(node: RunningNode) -> list[Route]:
    """What the API answers about orphans."""
    asked = _Orphans(node)
    path = "/v1/rules/{name:path}/orphans"
    return [Route(path, asked.page), Route(path + "/remove", asked.remove, methods=["POST"])]


class _Orphans:
    """One method for each path."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node

    async def page(self, request: Request) -> Response:
        name, asked = self._node.sent_rule(rule_name(request)), asked_of(request)
        ends, task = self._node.compares.ends(name), self._node.compares.latest(name)
        if task is None:
            return Document({"compared": None, "compared_ns": None, "items": [], "after": None})
        pairs = ends.work.rule.pairs
        directory = place_of(asked.get("path") or ".", pairs)
        after, limit = os.fsencode(asked.get("after", "")), number(asked, "limit", PAGE, 1, MOST) or PAGE
        above, rows = await in_thread(self._found, task, directory, after, limit)
        if above is not None:
            rows = await inside(ends, directory, after=after, most=limit)
        items = [_json(row, source_path(pairs, row.place)) for row in rows]
        more = os.fsdecode(rows[-1].cursor) if len(rows) == limit else None
        return Document(
            {"compared": task.ident, "compared_ns": task.began_ns, "items": items, "after": more},
        )

    async def remove(self, request: Request) -> Response:
        name, body = self._node.sent_rule(rule_name(request)), body_of(await request.body(), Body)
        ends, task = self._node.compares.ends(name), self._node.compares.latest(name)
        if task is None or not body.paths:
            raise UsageError(
                bilingual("orphans are known after a compare", "比较之后才能得知孤儿文件"),
                obj=name,
                next_step=bilingual("see i2 orphans list --refresh", "参见 i2 orphans list --refresh"),
            )
        places = [place_of(path, ends.work.rule.pairs) for path in body.paths]
        orphans, size = await in_thread(self._chosen, task, places)
        found: dict[str, Any] = {"task": None, "orphans": len(orphans), "bytes": size}
        if not body.dry_run:
            if not ends.work.view.replicates:
                raise not_replicating(name)
            work = partial(self._remove, name, task, orphans)
            begun = await self._node.tasks.begin(self._node.nursery, "orphans", name, {"paths": body.paths}, work)
            found["task"] = begun.ident
        return Document(found)

    async def _remove(self, name: str, task: Task, orphans: list[tuple[int, Place]], show: Show) -> dict[str, Any]:
        ends = self._node.compares.ends(name)
        removal = Removal(ends, orphans)
        try:
            async with background() as nursery:
                nursery.start_soon(_report, removal, show)
                outcome = await removal.run()
        finally:
            with trio.CancelScope(shield=True):
                await in_thread(self._note, task, removal.outcome.numbers)
        left = [
            {"path": shown(source_path(ends.work.rule.pairs, place)), "cause": cause}
            for place, cause in outcome.left.items()
        ]
        return {"removed": len(outcome.numbers), "left": left}

    # ------------------------------------------------------------------------------------------ in worker threads

    def _opened(self, task: Task) -> Result:
        path = self._node.compares.path_of(task)
        assert path is not None
        return Result(path)

    def _found(self, task: Task, directory: Place, after: bytes, limit: int) -> tuple[Place | None, list[Row]]:
        result = self._opened(task)
        try:
            above = orphan_above(result, directory)
            return above, [] if above is not None else browse(result, directory, after=after, most=limit)
        finally:
            result.close()

    def _chosen(self, task: Task, places: list[Place]) -> tuple[list[tuple[int, Place]], int]:
        result = self._opened(task)
        try:
            orphans = chosen(result, places)
            found = (result.at(Kind.EXTRA, place) for _, place in orphans)
            return orphans, sum(each[1].size_there for each in found if each is not None)
        finally:
            result.close()

    def _note(self, task: Task, numbers: list[int]) -> None:
        result = self._opened(task)
        try:
            result.mended(numbers)
        finally:
            result.close()


async def _report(removal: Removal, show: Show) -> None:
    while True:
        show(removal.progress())
        await trio.sleep(_REPORT_S)


def _json(row: Row, path: bytes) -> dict[str, Any]:
    return {"path": os.fsdecode(path)} | row.as_json()
