"""The part of the control API that gives up the past of received rules by hand.

    GET  /v1/rules/NAME/history/trim    what would be given up: {"before", "moments", "marks", "bytes", "first"}
             ?before=MOMENT             every moment before this one; or before_seq
    POST /v1/rules/NAME/history/trim    gives it up, and answers {"task"}; body: {"before_seq": NUMBER}

NAME is RULE or PEER/RULE. Refused (409) while the lock holds one of the moments, or somebody reads one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from i2core.api import UsageError, in_thread
from i2core.config.words import bilingual
from i2core.history.ask.span import Span, span_of
from i2core.history.model.rows import Moment
from i2core.history.retention.thinner import Thinner
from i2core.history.retention.trim import InUse, Locked, Trim
from i2core.node.daemon.answers import Document, asked_of, body_of, rule_name
from i2core.node.daemon.history_api import moment_of
from i2core.node.daemon.past import ReceivedPast
from i2core.node.daemon.running import RunningNode

Show = Callable[[Mapping[str, Any]], None]


@attrs.frozen(kw_only=True)
class Asked:
    """The body of the question."""

    before_seq: int


def trim_routes(node: RunningNode) -> list[Route]:
    """What the API answers about trimming."""
    asked = _Trims(node)
    path = "/v1/rules/{name:path}/history/trim"
    return [Route(path, asked.begin, methods=["POST"]), Route(path, asked.plan)]


class _Trims:
    """One method for each question."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node

    async def plan(self, request: Request) -> Response:
        asked = asked_of(request) | {"nearest": "after"}  # between two that are kept, the later one stays
        async with self._node.past(rule_name(request)) as past:
            span = await in_thread(span_of, past.history, past.zone)
            moment = await in_thread(moment_of, asked, past, span, "before")
            trim = await _trim(past, span, moment, _thinner(past).to_trim)
        return Document(_json(trim, span, moment))

    async def begin(self, request: Request) -> Response:
        name, asked = rule_name(request), body_of(await request.body(), Asked)
        async with self._node.past(name) as past:  # what is refused is told at once
            span = await in_thread(span_of, past.history, past.zone)
            moment = await in_thread(span.numbered, past.history, asked.before_seq)
            await _trim(past, span, moment, _thinner(past).to_trim)
        told = {"before": span.shown(moment.time_ns), "seq": moment.seq}
        work = partial(self._give_up, name, moment)
        task = await self._node.tasks.begin(self._node.nursery, "trim", name, told, work)
        return Document({"task": task.ident})

    async def _give_up(self, name: str, moment: Moment, _: Show) -> dict[str, Any]:
        async with self._node.past(name) as past:
            span = await in_thread(span_of, past.history, past.zone)
            before = await past.history.journal.space()
            trim = await _trim(past, span, moment, _thinner(past).trim)
            after = await past.history.journal.space()
            shown = span.shown(moment.time_ns)
            text = bilingual(f"every moment before {shown} was given up by hand", f"已手工清除 {shown} 之前的时刻")
            self._node.logbook.say(past.rule, None, text)
            return _json(trim, span, moment) | {"freed_bytes": max(before.used_bytes - after.used_bytes, 0)}


def _thinner(past: ReceivedPast) -> Thinner:
    thinner = past.history.thinner
    assert thinner is not None, "a backup role keeps every history by terms"
    return thinner


async def _trim(past: ReceivedPast, span: Span, moment: Moment, work: Callable[[int], Any]) -> Trim:
    """What `work` gives up or would give up.

    Raises:
        UsageError: it may not.
    """
    try:
        trim: Trim = await work(moment.seq)
        return trim
    except Locked as error:
        free = await in_thread(span.numbered, past.history, error.free)
        shown = span.shown(free.time_ns)
        raise UsageError(
            bilingual(f"cdp.lock holds every moment from {shown} on", f"cdp.lock 锁定了 {shown} 起的所有时刻"),
            obj=past.rule,
            next_step=bilingual(
                "give up earlier moments only, or wait until they are old enough",
                "只清除更早的时刻，或等待这些时刻超过锁定期",
            ),
        ) from error
    except InUse as error:
        raise UsageError(
            bilingual(
                f"the state after change {error.seq} is being read, by a mount or a recovery",
                f"变化 {error.seq} 之后的状态正被挂载或恢复任务读取",
            ),
            obj=past.rule,
            next_step=bilingual("end that first: see i2 task list", "请先结束该任务：参见 i2 task list"),
        ) from error


def _json(trim: Trim, span: Span, moment: Moment) -> dict[str, Any]:
    return {
        "before": {"seq": moment.seq, "time": span.shown(moment.time_ns)},
        "first": {"seq": span.had.first.seq, "time": span.shown(span.had.first.time_ns)},
        "moments": trim.moments,
        "marks": len(trim.gone),
        "bytes": trim.most_bytes,
    }
