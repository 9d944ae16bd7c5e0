"""The part of the control API that asks about the past of received rules.

    GET  /v1/rules/NAME/history                 which moments can be had: `Span.as_json`; the room that they take;
                                                and what was promised ("kept": `Figures.as_json`)
    GET  /v1/rules/NAME/history/log             {"records", "after"}: a page of the log, newest first
             ?path=PATH                         about this path and what is beneath it; ?object=1: about the object that
                                                is there now, under all of its names
             &from=MOMENT&to=MOMENT             changes at these times of the work node's clock
             &op=WORD,WORD                      these operations
             &oldest=1&limit=N&after=CURSOR     oldest first; at most N; where the page before ended
    GET  /v1/rules/NAME/history/changes         {"from", "to", "found", "more"}: what differs between two moments
             ?from=MOMENT&to=MOMENT&path=PATH   or from_seq, to_seq; nearest=before|after for moments that are gone
    POST /v1/rules/NAME/history/verify          {"task"}: proves that the journal is what was written

NAME is RULE or PEER/RULE. A MOMENT is written as `i2core.history.moments.text` says.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from i2core.api import Place, UsageError, in_thread
from i2core.config.words import bilingual
from i2core.history.ask.changes import Changes, changes, changes_json
from i2core.history.ask.log_page import OPS, PAGE, LogPage, LogQuery, log_page, record_json
from i2core.history.ask.span import Span, span_of
from i2core.history.ask.where import shown
from i2core.history.journal.verify import Progress, fault_text, verify
from i2core.history.model.rows import Moment
from i2core.history.moments.choice import Nearest
from i2core.history.moments.text import parse_moment
from i2core.node.daemon.answers import Document, asked_of, number, rule_name
from i2core.node.daemon.past import ReceivedPast

if TYPE_CHECKING:
    from i2core.node.daemon.running import RunningNode

MOST = 1000
"""Records on one page."""


def history_routes(node: RunningNode) -> list[Route]:
    """What the API answers about the past."""
    asked = _Questions(node)
    path = "/v1/rules/{name:path}/history"
    return [
        Route(f"{path}/log", asked.log),
        Route(f"{path}/changes", asked.changes),
        Route(f"{path}/verify", asked.verify, methods=["POST"]),
        Route(path, asked.span),
    ]


@attrs.frozen(kw_only=True)
class At:
    """A moment, as the body of a question names it; none: now."""

    at: str | None = None
    at_seq: int | None = None
    nearest: str | None = None


def moment_at(asked: At, past: ReceivedPast, span: Span) -> Moment:
    """The moment; blocks.

    Raises:
        UsageError: it cannot be had.
    """
    named = {"at": asked.at or "now"} if asked.at_seq is None else {"at_seq": str(asked.at_seq)}
    if asked.nearest is not None:
        named["nearest"] = asked.nearest
    return moment_of(named, past, span, "at")


class _Questions:
    """One method for each path."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node

    async def span(self, request: Request) -> Response:
        async with self._node.past(rule_name(request)) as past:
            found = await in_thread(span_of, past.history, past.zone)
            space = await past.history.journal.space()
            figures = self._node.history_figures(past)
        return Document(
            found.as_json()
            | {"space": space._asdict(), "targets": list(map(os.fsdecode, past.targets))}
            | {
                "kept": figures and figures.as_json(),
                "promised": figures and found.shown(figures.kept.objective.promised_from_ns),
            }
        )

    async def log(self, request: Request) -> Response:
        asked = asked_of(request)
        async with self._node.past(rule_name(request)) as past:
            span = await in_thread(span_of, past.history, past.zone)
            query = await in_thread(_query, asked, past, span)
            page: LogPage = await in_thread(log_page, past.history, query)
        records = [
            record_json(record, span.shown(record.time_ns))
            | {"place": shown(Place(record.root, record.path), past.targets)}
            for record in page.records
        ]
        return Document({"records": records, "after": page.after})

    async def changes(self, request: Request) -> Response:
        asked = asked_of(request)
        async with self._node.past(rule_name(request)) as past:
            span = await in_thread(span_of, past.history, past.zone)
            first = await in_thread(moment_of, asked, past, span, "from")
            second = await in_thread(moment_of, asked, past, span, "to")
            if first.seq > second.seq:
                first, second = second, first
            beneath = past.place(asked["path"]) if "path" in asked else None
            work = partial(changes, past.history, first.seq, second.seq, beneath=beneath)
            with past.pinned(first.seq, second.seq):
                found: Changes = await in_thread(work)
        return Document(
            {
                "from": {"seq": first.seq, "time": span.shown(first.time_ns)},
                "to": {"seq": second.seq, "time": span.shown(second.time_ns)},
                "found": changes_json(found.found),
                "more": found.more,
            }
        )

    async def verify(self, request: Request) -> Response:
        name = rule_name(request)
        async with self._node.past(name):  # an unknown rule is told at once
            pass

        async def work(show: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
            def report(progress: Progress) -> None:
                show(progress._asdict())

            async with self._node.past(name) as past:
                faults = await verify(past.history.journal, [past.history.durable.tip], report)
            texts = [fault_text(fault) for fault in faults]
            return {"faults": [{"text": text.en, "text_zh": text.zh} for text in texts], "equal": not faults}

        task = await self._node.tasks.begin(self._node.nursery, "verify", name, {}, work)
        return Document({"task": task.ident})


def moment_of(asked: Mapping[str, str], past: ReceivedPast, span: Span, key: str) -> Moment:
    """The moment that a question names by `key` (a time) or `key`_seq; blocks.

    Raises:
        UsageError: none is named, or it cannot be had.
    """
    seq = number(asked, f"{key}_seq", None, 0, 1 << 62)
    if seq is not None:
        return span.numbered(past.history, seq)
    if key not in asked:
        raise UsageError(bilingual("a moment is missing", "缺少时刻"), obj=key)
    nearest = _one_of(asked, "nearest", {each.value: each for each in Nearest})
    return span.moment(past.history, _time(asked[key], span), nearest)


def _one_of(asked: Mapping[str, str], key: str, words: Mapping[str, Nearest]) -> Nearest | None:
    if key not in asked:
        return None
    if asked[key] not in words:
        raise _unknown(key, words)
    return words[asked[key]]


def _time(text: str, span: Span) -> int:
    return parse_moment(text, work_zone=span.zone, now_ns=time.time_ns())


def _query(asked: Mapping[str, str], past: ReceivedPast, span: Span) -> LogQuery:
    place = past.place(asked["path"]) if "path" in asked else None
    ops = [word for word in asked.get("op", "").split(",") if word]
    if any(word not in OPS for word in ops):
        raise _unknown("op", OPS)
    follows = number(asked, "object", 0, 0, 1) == 1
    query = LogQuery(
        place=None if follows else place,
        oid=_object(past, place) if follows and place is not None else 0,
        ops=frozenset(OPS[word] for word in ops),
        oldest_first=number(asked, "oldest", 0, 0, 1) == 1,
        after=number(asked, "after", None, 0, 1 << 62),
        limit=number(asked, "limit", PAGE, 1, MOST) or PAGE,
        **{f"{key}_ns": _time(asked[key], span) for key in ("from", "to") if key in asked},
    )
    return query


def _object(past: ReceivedPast, place: Place) -> int:
    """The number of the object that is there now; one without a number has not changed since the history began."""
    history = past.history
    with history.reading:
        found: int = history.past().number(place.root, place.path.split(b"/") if place.path else (), history.seq)
    if not found:
        raise UsageError(
            bilingual(
                "nothing that is there now has changed since the history began", "该处现有的对象自历史开始以来没有变化"
            ),
            obj=shown(place, past.targets),
            next_step=bilingual("leave out --file to see what was there before", "去掉 --file 可查看此前的对象"),
        )
    return found


def _unknown(key: str, words: Mapping[str, object]) -> UsageError:
    known = ", ".join(words)
    return UsageError(bilingual(f"must be one of {known}", f"必须是其中之一：{known}"), obj=key)
