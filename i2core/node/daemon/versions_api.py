"""The part of the control API that follows one file of a received rule through its past.

    GET  /v1/rules/NAME/history/versions        {"path", "versions": [[seq, time, op, object], …], "more"}:
             ?path=PATH                         oldest first; the first one is the state at the beginning
             &from=MOMENT&to=MOMENT             or from_seq, to_seq; default: all that can be had
    GET  /v1/rules/NAME/history/content         the bytes of one version, as they are; 404 where it was not there
             ?object=NUMBER&seq=NUMBER          as a version has them
             &offset=N&size=N                   at most `MOST_BYTES`

NAME is RULE or PEER/RULE.
"""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from i2core.api import UsageError, in_thread
from i2core.config.words import bilingual
from i2core.history.ask.log_page import WORDS
from i2core.history.ask.span import span_of
from i2core.history.ask.versions import content, versions
from i2core.history.ask.where import shown
from i2core.node.daemon.answers import Document, asked_of, number, rule_name
from i2core.node.daemon.history_api import moment_of
from i2core.node.daemon.running import RunningNode

MOST_BYTES = 4 << 20
_LARGEST = 1 << 62


def versions_routes(node: RunningNode) -> list[Route]:
    """What the API answers about versions."""
    asked = _Versions(node)
    path = "/v1/rules/{name:path}/history"
    return [Route(f"{path}/versions", asked.versions), Route(f"{path}/content", asked.content)]


class _Versions:
    """One method for each path."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node

    async def versions(self, request: Request) -> Response:
        asked = asked_of(request)
        if "path" not in asked:
            raise UsageError(bilingual("a path is missing", "缺少路径"), obj="path")
        async with self._node.past(rule_name(request)) as past:
            span = await in_thread(span_of, past.history, past.zone)
            first, last = span.had.first, span.had.last
            if {"from", "from_seq"} & asked.keys():
                first = await in_thread(moment_of, asked, past, span, "from")
            if {"to", "to_seq"} & asked.keys():
                last = await in_thread(moment_of, asked, past, span, "to")
            place = past.place(asked["path"])
            with past.pinned(first.seq, last.seq):
                found = await in_thread(partial(versions, past.history, place, first.seq, last.seq))
        listed = [[one.seq, span.shown(one.time_ns), WORDS.get(one.op, ""), one.oid] for one in found.found]
        return Document({"path": shown(place, past.targets), "versions": listed, "more": found.more})

    async def content(self, request: Request) -> Response:
        asked = asked_of(request)
        oid, seq = (number(asked, key, 0, 0, _LARGEST) or 0 for key in ("object", "seq"))
        offset = number(asked, "offset", 0, 0, _LARGEST) or 0
        size = number(asked, "size", MOST_BYTES, 1, MOST_BYTES) or MOST_BYTES
        async with self._node.past(rule_name(request)) as past:
            with past.pinned(seq):
                data = await in_thread(partial(content, past.history, oid, seq, offset, offset + size))
        status = 404 if data is None else 200
        return Response(data or b"", status_code=status, media_type="application/octet-stream")
