"""The part of the control API about the scrub of a rule of this node.

GET  /v1/rules/NAME/scrub    {"proved_at", "held_back", "scrub", "held"}: as in the rule's status, and the files that
                             are held back: {"path", "since_ns"}
POST /v1/rules/NAME/scrub    {"accepted", "begun"}; its body is a JSON object:
         "accept": [PATH, …]  the source's content of these files is right: it is sent
         "now": true          a pass begins now
"""

from __future__ import annotations

import os

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from i2core.api import UsageError, in_thread
from i2core.compare.places import place_of, source_path
from i2core.config.words import bilingual
from i2core.node.daemon.answers import Document, body_of, rule_name
from i2core.node.daemon.running import RunningNode


@attrs.frozen(kw_only=True)
class Body:
    """The body of the question."""

    accept: list[str] = attrs.field(factory=list)
    now: bool = False


def scrub_routes(node: RunningNode) -> list[Route]:
    """What the API answers about scrubs."""
    asked = _Scrubs(node)
    path = "/v1/rules/{name:path}/scrub"
    return [Route(path, asked.act, methods=["POST"]), Route(path, asked.show)]


class _Scrubs:
    """One method for each path."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node

    async def show(self, request: Request) -> Response:
        name, scrubs = self._node.sent_rule(rule_name(request)), self._node.scrubs
        pairs = self._node.compares.ends(name).work.rule.pairs
        held = [
            {"path": os.fsdecode(source_path(pairs, each.place)), "since_ns": each.since_ns}
            for each in await in_thread(scrubs.held, name)
        ]
        return Document(scrubs.figures(name) | {"held": held})

    async def act(self, request: Request) -> Response:
        name, body = self._node.sent_rule(rule_name(request)), body_of(await request.body(), Body)
        pairs = self._node.compares.ends(name).work.rule.pairs
        places = [place_of(path, pairs) for path in body.accept]
        accepted = self._node.scrubs.accept(name, places)
        if places and not accepted:
            raise UsageError(
                bilingual("none of these files is held back", "这些文件均未被扣留"),
                obj=name,
                next_step=bilingual(f"see i2 scrub {name}", f"参见 i2 scrub {name}"),
            )
        if body.now and not self._node.scrubs.now(name):
            raise UsageError(
                bilingual("the rule has no scrub", "该规则没有后台校验"),
                obj=name,
                next_step=bilingual("give it one in the config: scrub = {}", "请在配置中加入 scrub = {}"),
            )
        return Document({"accepted": accepted, "begun": body.now})
