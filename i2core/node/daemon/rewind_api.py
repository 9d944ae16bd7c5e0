"""The part of the control API that turns replicas of received rules back.

    POST /v1/rules/NAME/rewinds         begins to turn the replica back, and answers {"task"}; its body:
             "at": MOMENT               or "at_seq": NUMBER; default: now. "nearest": "before" | "after"
             "dry_run": true            nothing is changed: the result tells what would be

NAME is RULE or PEER/RULE. Refused (409) while the rule runs. The replica is held afterwards, until it is released.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from i2core.api import Failure, UsageError, in_thread
from i2core.config.words import bilingual
from i2core.history.ask.changes import changes, changes_json
from i2core.history.ask.span import span_of
from i2core.history.ask.where import shown
from i2core.history.model.rows import Moment
from i2core.history.retention.pins import MomentGone
from i2core.history.rewind.turning import Progress, Turned
from i2core.node.daemon.answers import Document, body_of, rule_name
from i2core.node.daemon.history_api import At, moment_at
from i2core.node.daemon.past import ReceivedPast
from i2core.node.daemon.running import RunningNode
from i2core.rule.backup.entry.owners import Key
from i2core.rule.backup.replica.rewound import Rewound
from i2core.tasks import background

LISTED = 1000
_REPORT_S = 0.5
_BACK = {"created": "removed", "removed": "created"}
Show = Callable[[Mapping[str, Any]], None]


@attrs.frozen(kw_only=True)
class Asked(At):
    """The body of the question."""

    dry_run: bool = False


def rewind_routes(node: RunningNode) -> list[Route]:
    """What the API answers about rewinds."""
    return [Route("/v1/rules/{name:path}/rewinds", _Rewinds(node).begin, methods=["POST"])]


async def resume_rewinds(node: RunningNode) -> None:
    """Goes on with those that were cut off, each as a task. Called at the start of the node."""
    if node.backup is None:
        return
    for key, rewound in await in_thread(node.backup.rewinds.unfinished):
        told = {"seq": rewound.seq, "resumed": True}
        await node.tasks.begin(node.nursery, "rewind", key[1], told, partial(_Rewinds(node).run, key, rewound))


class _Rewinds:
    def __init__(self, node: RunningNode) -> None:
        self._node = node

    async def begin(self, request: Request) -> Response:
        name, asked = rule_name(request), body_of(await request.body(), Asked)
        async with self._node.past(name) as past:  # what cannot be had is told at once
            span = await in_thread(span_of, past.history, past.zone)
            moment = await in_thread(moment_at, asked, past, span)
        told = {"moment": span.shown(moment.time_ns), "seq": moment.seq}
        if asked.dry_run:
            task = await self._node.tasks.begin(
                self._node.nursery, "rewind", name, told | {"dry_run": True}, partial(self._plan, name, moment)
            )
            return Document({"task": task.ident})
        assert self._node.backup is not None
        key = past.peer, past.rule
        self._node.backup.rewinds.check(key)
        task = await self._node.tasks.begin(self._node.nursery, "rewind", name, told, partial(self._noted, key, moment))
        return Document({"task": task.ident})

    async def _plan(self, name: str, moment: Moment, _: Show) -> dict[str, Any]:
        async with self._node.past(name) as past:
            with past.pinned(moment.seq):
                work = partial(changes, past.history, moment.seq, past.history.seq, most=LISTED)
                found = await in_thread(work)
                told = await _told(past, moment)
        listed = [one | {"what": _BACK.get(one["what"], one["what"])} for one in changes_json(found.found)]
        return told | {"equal": not listed, "changes": listed, "more": found.more}

    async def _noted(self, key: Key, moment: Moment, show: Show) -> dict[str, Any]:
        assert self._node.backup is not None
        return await self.run(key, await self._node.backup.rewinds.note(key, moment.seq, moment.time_ns), show)

    async def run(self, key: Key, rewound: Rewound, show: Show) -> dict[str, Any]:
        """The task itself."""
        assert self._node.backup is not None
        name = "/".join(key)
        async with self._node.past(name) as past:
            before = past.history.seq
            try:
                turned = await self._turned(key, rewound, show)
            except MomentGone as error:
                raise UsageError(
                    bilingual("the moment is not kept any more", "该时刻已不再保留"),
                    obj=str(rewound.seq),
                    next_step=bilingual("choose another one: see i2 cdp range", "请另选时刻：参见 i2 cdp range"),
                ) from error
            failed = [_failure_json(failure, past) for failure in turned.failures]
            told = await _told(past, Moment(rewound.time_ns, rewound.seq))
        return told | {
            "before_seq": before,
            "equal": turned.equal,
            "records": turned.records,
            "bytes": turned.bytes,
            "failed": failed,
        }

    async def _turned(self, key: Key, rewound: Rewound, show: Show) -> Turned:
        assert self._node.backup is not None
        shown: list[Progress] = []
        async with background() as nursery:
            nursery.start_soon(_report, shown, show)
            return await self._node.backup.rewinds.run(key, rewound, shown.append)


async def _report(shown: list[Progress], show: Show) -> None:
    while True:
        for progress in shown:
            show(attrs.asdict(progress))
        await trio.sleep(_REPORT_S)


async def _told(past: ReceivedPast, moment: Moment) -> dict[str, Any]:
    span = await in_thread(span_of, past.history, past.zone)
    return {"moment": span.shown(moment.time_ns), "seq": moment.seq}


def _failure_json(failure: Failure, past: ReceivedPast) -> dict[str, Any]:
    return {
        "path": shown(failure.place, past.targets),
        "code": int(failure.code),
        "message": failure.message,
    }
