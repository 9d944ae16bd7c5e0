"""The part of the control API that brings the past of received rules back.

    POST /v1/rules/NAME/recoveries      begins a recovery, and answers {"task"}; its body is a JSON object:
             "to": DIR | NODE:DIR       the destination, an absolute directory of this node or of a work node; none:
                                        the original places of this node's own rule
             "backup": NODE             the backup node that has the history; default: this one, or that of the rule
             "stop_rule": true          rules whose sources are written are stopped first, and started afterwards
             "at": MOMENT               or "at_seq": NUMBER; default: now. "nearest": "before" | "after"
             "snapshot": NUMBER         this snapshot instead
             "paths": [PATH, …]         only these
             "extra": "keep" | "aside" | "delete"
             "dry_run": true            nothing is written: the result tells what would be done
             "strict": true             contents are compared also where size and time are equal
             "prove": false             nothing is compared afterwards
    GET  /v1/rules/NAME/recoveries      those that were tried, the latest first

NAME is RULE or PEER/RULE. Progress and result are those of the task (`/v1/tasks`). A recovery from a backup node, or to
a work node, waits for a broken link, and is continued by the next daemon.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from i2core.api import Channel, UsageError, in_thread
from i2core.config.words import bilingual
from i2core.node.control.errors import unknown_rule
from i2core.node.daemon.answers import Document, body_of, rule_name
from i2core.node.daemon.forbidden import forbidden_places
from i2core.node.daemon.past_state import AtOrSnapshot, Chosen, choose, opened
from i2core.node.daemon.recovering import Show, Wanted, bring_back
from i2core.node.daemon.recovery_legs import legs_of
from i2core.node.daemon.recovery_tasks import KIND, FromBackup, ToNode
from i2core.node.daemon.running import RunningNode, peer_and_rule
from i2core.node.daemon.tasks import Task
from i2core.node.pairing.peer_book import PeerRole
from i2core.node.pairing.peers import reach
from i2core.recovery.local_end import LocalEnd
from i2core.recovery.order import Extra
from i2core.recovery.tried import place_of, read_tried


@attrs.frozen(kw_only=True)
class Asked(AtOrSnapshot):
    """The body of the question."""

    to: str | None = None
    backup: str | None = None
    stop_rule: bool = False
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
        backup = await in_thread(self._backup, name, asked)
        task = await (self._begin_here(name, asked) if backup is None else self._begin_from(backup, name, asked))
        return Document({"task": task.ident})

    def _backup(self, name: str, asked: Asked) -> str | None:
        """The backup node that has the history; None: it is this node.

        Raises:
            UsageError: it is not clear which one is meant.
        """
        if asked.backup is not None:
            return asked.backup
        node, (peer, rule) = self._node, peer_and_rule(name)
        own = next((one for one in node.config.rules if peer is None and one.name == rule), None)
        if node.backup is not None and node.backup.position(rule, peer) is not None:
            if own is None:
                return None
            raise UsageError(
                bilingual("this node both runs and receives a rule of this name", "本节点既运行又接收该名称的规则"),
                obj=name,
                next_step=bilingual(
                    f"name it as PEER/{name}, or add --from {own.backup}",
                    f"请写作 PEER/{name}，或加上 --from {own.backup}",
                ),
            )
        if own is not None:
            return own.backup
        known = [] if node.config.work is None else [one.name for one in node.config.work.peers]
        if len(known) != 1:
            raise unknown_rule(name) if not known else _several(name, known)
        return known[0]

    async def _begin_from(self, backup: str, name: str, asked: Asked) -> Task:
        """A recovery from another node to this one."""
        node, (peer, rule) = self._node, peer_and_rule(name)
        if node.recoveries.link is None:
            raise UsageError(
                bilingual("only a work node recovers from another node", "只有工作机可以从其他节点恢复"), obj=backup
            )
        reach(node.config, backup)
        own = next((one for one in node.config.rules if peer in (None, node.config.name) and one.name == rule), None)
        own = own if own is not None and own.backup == backup else None
        legs = await in_thread(legs_of, name, own, asked.to, asked.paths, asked.extra)
        wanted = FromBackup(
            backup=backup,
            peer=peer or "",
            legs=legs,
            to=[leg.to for leg in legs],
            at=asked.at,
            at_seq=asked.at_seq,
            nearest=asked.nearest,
            snapshot=asked.snapshot,
            extra=asked.extra.value,
            strict=asked.strict,
            prove=asked.prove,
            dry_run=asked.dry_run,
            stop_rule=asked.stop_rule,
        )
        return await node.recoveries.begin(rule, wanted)

    async def _begin_to_node(self, peer: str, directory: str, name: str, asked: Asked) -> Task:
        """A recovery from the history on this node to a work node."""
        node = self._node
        if node.trust.named(PeerRole.WORK, peer) is None:
            raise UsageError(
                bilingual("no work node of this name is trusted here", "此处没有该名称的受信任工作机"),
                obj=peer,
                next_step=bilingual("see i2 node peers", "参见 i2 node peers"),
            )
        if Channel.RECOVERY not in node.ports:
            raise UsageError(
                bilingual("this node has no recovery port open", "本节点未打开恢复端口"),
                obj=peer,
                next_step=bilingual("set recovery_port in [backup]", "请在 [backup] 中设置 recovery_port"),
            )
        chosen, rule = await choose(node, name, asked), node.received(name)  # what cannot be had is told at once
        wanted = ToNode(
            rule=f"{rule.peer}/{rule.rule}",
            peer=peer,
            directory=directory,
            paths=asked.paths,
            moment=chosen.moment,
            seq=chosen.seq,
            snapshot=chosen.snapshot,
            extra=asked.extra.value,
            strict=asked.strict,
            prove=asked.prove,
            dry_run=asked.dry_run,
        )
        return await node.recoveries.begin_to_node(name, wanted)

    async def _begin_here(self, name: str, asked: Asked) -> Task:
        """A recovery from the history on this node."""
        if asked.to is None or asked.stop_rule:
            what = bilingual("the original places are on the work node", "原位置在工作机上")
            step = bilingual(
                "name a destination with --to and leave out --stop-rule, or run the command on the work node",
                "请用 --to 指定目标且不加 --stop-rule，或在工作机上执行该命令",
            )
            raise UsageError(what, obj=name, next_step=step)
        peer, colon, directory = asked.to.partition(":/")
        if colon and "/" not in peer:
            return await self._begin_to_node(peer, f"/{directory}", name, asked)
        chosen = await choose(self._node, name, asked)  # what cannot be had is told at once
        told = attrs.asdict(asked, filter=lambda _, value: value not in (None, [], False))
        told |= {"extra": asked.extra.value} | chosen.as_json()
        work = partial(self._recover, name, asked, asked.to, chosen)
        return await self._node.tasks.begin(self._node.nursery, KIND, name, told, work)

    async def tried(self, request: Request) -> Response:
        rule = self._node.received(rule_name(request))
        place = place_of(self._node.config.state_dir, rule.peer, rule.rule)
        return Document([attrs.asdict(tried) for tried in await in_thread(read_tried, place)])

    async def _recover(self, name: str, asked: Asked, to: str, chosen: Chosen, show: Show) -> dict[str, Any]:
        node = self._node
        wanted = Wanted(
            paths=asked.paths, extra=asked.extra, strict=asked.strict, prove=asked.prove, dry_run=asked.dry_run
        )
        path = os.fsencode(to)
        async with opened(node, name, chosen) as state:
            place = place_of(node.config.state_dir, state.rule.peer, state.rule.rule)
            end = LocalEnd(
                path,
                state_dir=node.config.state_dir,
                place=place,
                say=node.logbook.say,
                forbidden=forbidden_places(node),
            )
            with node.recoveries.written([] if asked.dry_run else [path]):
                return await bring_back(state, wanted, chosen, end, place=place, say=node.logbook.say, show=show)


def _several(name: str, known: list[str]) -> UsageError:
    return UsageError(
        bilingual("this node knows several backup nodes", "本节点有多台灾备机"),
        obj=name,
        next_step=bilingual(f"add --from: one of {', '.join(known)}", f"请加上 --from：{'、'.join(known)} 之一"),
    )
