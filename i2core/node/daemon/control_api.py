"""The control API on the node's Unix socket: used by `i2 rule …` and other local programs.

The socket's mode, 0600 in a 0700 directory, is its authentication.

    GET  /v1/status                     the node
    GET  /v1/rules                      all rules, sent and received
    GET  /v1/events?after=CURSOR        lines of the log after the cursor: `Page.as_json`
               &wait=SECONDS            waits so long for the first one, 60 at most
               &rule=NAME&limit=N       only of that rule; at most N
    GET  /metrics                       figures for Prometheus
    POST /v1/rules/NAME/start           {"name", "done"}: done is False when there was nothing to do; ?compare=1:
                                        compare everything with the replica
    POST /v1/rules/NAME/stop
    POST /v1/rules/NAME/release         NAME is RULE or PEER/RULE
    POST /v1/rules/NAME/forget
    POST /v1/rules/NAME/hand-over?to=PEER/RULE
                                        that rule may take the targets of NAME, which is RULE or PEER/RULE
    …    /v1/rules/NAME/history, rewinds, recoveries, mounts, snapshots
                                        the past of a received rule: see `history_api`, `trim_api`, `versions_api`,
                                        `rewind_api`, `recovery_api`, `mount_api`, `snapshot_api`
    POST /v1/rules/NAME/fetches         objects of a received rule, as they are now: see `fetch_api`
    …    /v1/rules/NAME/compares, orphans, scrub
                                        of a rule that this node sends: see `compare_api`, `orphan_api`, `scrub_api`
    GET  /v1/tasks                      all long operations that are remembered: `Task.as_json`
    GET  /v1/tasks/NUMBER?wait=SECONDS  one of them; waits so long for its end, 60 at most
    POST /v1/tasks/NUMBER/cancel        {"number", "done"}: done is False when it had ended
    POST /v1/peers/reread               {"gained", "lost"}: names; call it after a change of the peer book

Errors answer 404 (no such rule), 409 (cannot be done here) or 500 with the document of `error_json`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from i2core.api import Code, I2Error
from i2core.node.control.http import HttpServer
from i2core.node.control.socket_path import SOCKET, short_path
from i2core.node.daemon.answers import Document, number, rule_name
from i2core.node.daemon.compare_api import compare_routes
from i2core.node.daemon.faults import as_i2error, error_json
from i2core.node.daemon.fetch_api import fetch_routes
from i2core.node.daemon.history_api import history_routes
from i2core.node.daemon.metrics import CONTENT_TYPE, exposition
from i2core.node.daemon.mount_api import mount_routes
from i2core.node.daemon.orphan_api import orphan_routes
from i2core.node.daemon.recovery_api import recovery_routes
from i2core.node.daemon.rewind_api import rewind_routes
from i2core.node.daemon.running import RunningNode
from i2core.node.daemon.scrub_api import scrub_routes
from i2core.node.daemon.snapshot_api import snapshot_routes
from i2core.node.daemon.trim_api import trim_routes
from i2core.node.daemon.versions_api import versions_routes

Endpoint = Callable[[Request], Awaitable[Response]]

PAGE = 500
BACKLOG = 64
RESTART_S = 1.0
MOST_WAIT_S = 60
"""A request waits no longer than this, so that no proxy in between closes an idle connection."""


def control_app(node: RunningNode) -> Starlette:
    """The API of `node`."""
    api = _Endpoints(node)
    commands: dict[str, Endpoint] = {
        "start": api.start,
        "stop": api.stop,
        "release": api.release,
        "forget": api.forget,
        "hand-over": api.hand_over,
    }
    return Starlette(
        routes=[
            Route("/v1/status", api.status),
            Route("/v1/peers/reread", api.reread, methods=["POST"]),
            Route("/v1/rules", api.rules),
            Route("/v1/events", api.events),
            Route("/metrics", api.metrics),
            *trim_routes(node),
            *rewind_routes(node),
            *versions_routes(node),
            *history_routes(node),
            *recovery_routes(node),
            *mount_routes(node),
            *compare_routes(node),
            *snapshot_routes(node),
            *orphan_routes(node),
            *scrub_routes(node),
            *fetch_routes(node),
            Route("/v1/tasks", api.tasks),
            Route("/v1/tasks/{number:int}", api.task),
            Route("/v1/tasks/{number:int}/cancel", api.cancel, methods=["POST"]),
            *(Route(f"/v1/rules/{{name:path}}/{word}", answer, methods=["POST"]) for word, answer in commands.items()),
        ],
        exception_handlers={I2Error: _answer_error, Exception: _answer_error},
    )


class _Endpoints:
    """One method for each path of the API."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node

    async def status(self, _request: Request) -> Response:
        return JSONResponse(self._node.status())

    async def rules(self, _request: Request) -> Response:
        return Document(self._node.rules())

    async def events(self, request: Request) -> Response:
        asked = request.query_params
        page = await self._node.logbook.events(
            number(asked, "after", None, 0, 2**63),
            wait_s=number(asked, "wait", 0, 0, MOST_WAIT_S) or 0,
            limit=number(asked, "limit", PAGE, 1, 2 * PAGE) or PAGE,
            rule=asked.get("rule"),
        )
        return Document(page.as_json())

    async def metrics(self, _request: Request) -> Response:
        return Response(exposition(self._node.status(), self._node.rules()), media_type=CONTENT_TYPE)

    async def tasks(self, _request: Request) -> Response:
        return Document([task.as_json() for task in self._node.tasks.all()])

    async def task(self, request: Request) -> Response:
        wait_s = number(request.query_params, "wait", 0, 0, MOST_WAIT_S) or 0
        task = await self._node.tasks.wait(request.path_params["number"], wait_s)
        return Document(task.as_json())

    async def cancel(self, request: Request) -> Response:
        number: int = request.path_params["number"]
        return JSONResponse({"number": number, "done": self._node.tasks.cancel(number)})

    async def reread(self, _request: Request) -> Response:
        return JSONResponse(await self._node.reread_peers())

    async def start(self, request: Request) -> Response:
        compare = number(request.query_params, "compare", 0, 0, 1) == 1
        return _done(request, await self._node.start(rule_name(request), compare=compare))

    async def stop(self, request: Request) -> Response:
        return _done(request, await self._node.stop(rule_name(request)))

    async def release(self, request: Request) -> Response:
        return _done(request, await self._node.release(rule_name(request)))

    async def forget(self, request: Request) -> Response:
        return _done(request, self._node.forget(rule_name(request)))

    async def hand_over(self, request: Request) -> Response:
        to = request.query_params.get("to", "")
        return _done(request, await self._node.hand_over(rule_name(request), to))


def _done(request: Request, done: bool) -> Response:
    return JSONResponse({"name": rule_name(request), "done": done})


async def _answer_error(_request: Request, error: Exception) -> Response:
    known = as_i2error(error)
    status = 404 if known.code is Code.RULE_UNKNOWN else 409 if known.exit_code == 2 else 500
    return Document(error_json(known), status_code=status)


async def serve_control(
    node: RunningNode, state_dir: Path, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Answers on ``state_dir/control.sock`` until cancelled, then removes the socket. A failure does not end the node:
    it is logged, and the socket is opened again.

    The caller holds the state directory's lock, so a socket that already exists is stale.
    """

    def report(failure: str) -> None:
        node.logbook.say("", Code.INTERNAL, f"the control API failed: {failure}")

    server = HttpServer(control_app(node), report)
    started = False
    while True:
        try:
            with _listening(state_dir) as listener:
                listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
                if not started:
                    started = True
                    task_status.started()
                await trio.serve_listeners(server.connection, listeners)
        except Exception:
            # A request of `i2 rule` or of a console must never end the rules. But if the socket cannot be opened at
            # the start, the error is raised to the caller, which starts the node.
            if not started:
                raise
            report(traceback.format_exc())
            await trio.sleep(RESTART_S)


@contextlib.contextmanager
def _listening(state_dir: Path) -> Iterator[socket.socket]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener, short_path(state_dir) as directory:
        path = f"{directory}/{SOCKET}"
        fresh = f"{path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        # The mode is 0600 from the beginning, because bind(2) takes that of the unbound socket. A umask would not do:
        # it belongs to the whole process, in which the sink's threads create files.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(fresh)
        listener.listen(BACKLOG)
        # The socket gets its name only after listen: between bind and listen a connection would be refused.
        os.rename(fresh, path)
        try:
            yield listener
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
