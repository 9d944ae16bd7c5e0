"""The part of the control API that shows the past of received rules as a file system.

    POST /v1/rules/NAME/mounts          mounts a moment, and answers {"task", "moment", "seq"}; its body:
             "dir": DIR                 an empty directory of this node
             "at": MOMENT               or "at_seq": NUMBER; default: now. "nearest": "before" | "after"
             "snapshot": NUMBER         this snapshot instead
             "writable": true           a layer above keeps what is written, and is thrown away at the end
             "everybody": true          every user may enter, as far as modes and ACLs allow; else root alone
             "socket": NAME             the command mounts, and hands over the mount there: see `i2core.mount.handed`

NAME is RULE or PEER/RULE. The mount is a task (`/v1/tasks`): it ends when it is unmounted, or the task is cancelled.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from i2core.api import UsageError, in_thread
from i2core.config.words import bilingual
from i2core.mount.handed import Handed
from i2core.mount.mounted import mounted
from i2core.node.control.client import error_of
from i2core.node.daemon.answers import Document, body_of, rule_name
from i2core.node.daemon.forbidden import forbidden_places
from i2core.node.daemon.past_state import AtOrSnapshot, Chosen, choose, opened
from i2core.node.daemon.running import RunningNode
from i2core.node.daemon.tasks import Task, TaskState

_POLL_S = 0.05
Show = Callable[[Mapping[str, Any]], None]


@attrs.frozen(kw_only=True)
class Asked(AtOrSnapshot):
    """The body of the question."""

    dir: str
    writable: bool = False
    everybody: bool = False
    socket: str | None = None


def mount_routes(node: RunningNode) -> list[Route]:
    """What the API answers about mounts."""
    return [Route("/v1/rules/{name:path}/mounts", _Mounts(node).begin, methods=["POST"])]


class _Mounts:
    def __init__(self, node: RunningNode) -> None:
        self._node = node

    async def begin(self, request: Request) -> Response:
        name, asked = rule_name(request), body_of(await request.body(), Asked)
        if not os.path.isabs(asked.dir):
            raise UsageError(bilingual("is not an absolute path", "不是绝对路径"), obj=asked.dir)
        chosen = await choose(self._node, name, asked)
        work = partial(self._mount, name, asked, chosen)
        told = {"dir": asked.dir, **chosen.as_json(), "writable": asked.writable}
        begun = await self._node.tasks.begin(self._node.nursery, "mount", name, told, work)
        task = await self._there(begun)
        if task.error is not None:
            raise error_of(task.error)
        return Document({"task": task.ident, **chosen.as_json()})

    async def _there(self, task: Task) -> Task:
        """The task once the mount is there, or has failed."""
        while task.state is TaskState.RUNNING and not task.progress:
            await trio.sleep(_POLL_S)
            task = self._node.tasks.get(task.ident)
        return task

    async def _mount(self, name: str, asked: Asked, chosen: Chosen, show: Show) -> dict[str, Any]:
        node = self._node
        forbidden = await in_thread(forbidden_places, node)
        async with opened(node, name, chosen) as state, _handed(node, asked.socket) as handed:
            trees, rule = state.trees, state.rule
            async with mounted(
                trees[0] if len(trees) == 1 else dict(zip(_names(rule.targets), trees, strict=True)),
                os.fsencode(asked.dir),
                partial(node.logbook.say, rule.rule, None),
                forbidden=[place.path for place in forbidden],
                everybody=asked.everybody,
                writable=asked.writable,
                handed=handed,
            ) as mount:
                show({"mounted": os.fsdecode(mount.point)})
                await mount.ended.wait()
        return {"mounted": None}


@asynccontextmanager
async def _handed(node: RunningNode, socket: str | None) -> AsyncIterator[Handed | None]:
    """The command that mounts; None: this process does."""
    if socket is None:
        yield None
        return
    handed = await in_thread(Handed.connect, node.config.state_dir, socket)
    try:
        yield handed
    finally:
        handed.close()


def _names(targets: tuple[bytes, ...]) -> list[bytes]:
    """A name for each root: the last of its path, with a number where several have the same."""
    found: list[bytes] = []
    for target in targets:
        name = os.path.basename(target.rstrip(b"/")) or b"root"
        free, number = name, 1
        while free in found:
            number += 1
            free = b"%s-%d" % (name, number)
        found.append(free)
    return found
