"""The control API on the node's Unix socket: what `i2 rule …` and other local programs talk to.

The socket's mode, 0600 in a 0700 directory, is its authentication.

    GET  /v1/status                     the node
    GET  /v1/rules                      all rules, sent and received
    GET  /v1/events?after=CURSOR        lines of the logbook behind the cursor: `Page.as_json`
               &wait=SECONDS            while there are none, waits so long, 60 at most
               &rule=NAME&limit=N       of that rule alone; so many at most
    GET  /metrics                       figures for Prometheus
    POST /v1/rules/NAME/start           {"name", "done"}: done is False when there was nothing to do; ?compare=1: anew,
                                        relying on nothing that is known of the replica
    POST /v1/rules/NAME/stop
    POST /v1/rules/NAME/release
    POST /v1/rules/NAME/forget
    POST /v1/peers/reread               {"gained", "lost"}: names, after pairing or revoking changed the peer book

Errors answer 404 (no such rule), 409 (cannot be done here) or 500 with the document of `error_json`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from i2core.api import Code, I2Error, UsageError
from i2core.node.faults import as_i2error, error_json
from i2core.node.metrics import CONTENT_TYPE, exposition
from i2core.node.running import RunningNode
from i2core.node.socket_path import SOCKET, short_path
from i2core.node.speech import said

Endpoint = Callable[[Request], Awaitable[Response]]

PAGE = 500
MOST_WAIT_S = 60
"""A follower asks again before something between it and the node takes the silence for a dead connection."""


class Document(JSONResponse):
    """Names of files that are no UTF-8 cross as escapes (lone surrogates), which UTF-8 itself cannot carry."""

    def render(self, content: Any) -> bytes:
        """The document in ASCII."""
        return json.dumps(content).encode()


def _number(asked: Mapping[str, str], key: str, default: int | None, least: int, most: int) -> int | None:
    text = asked.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and least <= int(text) <= most):
        raise UsageError(
            said(f"must be a whole number from {least} to {most}", f"必须是 {least} 到 {most} 的整数"), obj=key
        )
    return int(text)


def control_app(node: RunningNode) -> Starlette:
    """The API of `node`."""

    async def status(_request: Request) -> Response:
        return JSONResponse(node.status())

    async def rules(_request: Request) -> Response:
        return Document(node.rules())

    async def events(request: Request) -> Response:
        asked = request.query_params
        page = await node.logbook.events(
            _number(asked, "after", None, 0, 2**63),
            wait_s=_number(asked, "wait", 0, 0, MOST_WAIT_S) or 0,
            limit=_number(asked, "limit", PAGE, 1, 2 * PAGE) or PAGE,
            rule=asked.get("rule"),
        )
        return Document(page.as_json())

    async def metrics(_request: Request) -> Response:
        return Response(exposition(node.status(), node.rules()), media_type=CONTENT_TYPE)

    async def start(request: Request) -> Response:
        name = request.path_params["name"]
        compare = _number(request.query_params, "compare", 0, 0, 1) == 1
        return JSONResponse({"name": name, "done": await node.start(name, compare=compare)})

    async def stop(request: Request) -> Response:
        name = request.path_params["name"]
        return JSONResponse({"name": name, "done": await node.stop(name)})

    async def forget(request: Request) -> Response:
        name = request.path_params["name"]
        return JSONResponse({"name": name, "done": node.forget(name)})

    async def release(request: Request) -> Response:
        name = request.path_params["name"]
        return JSONResponse({"name": name, "done": node.release(name)})

    async def reread(_request: Request) -> Response:
        return JSONResponse(await node.reread_peers())

    return Starlette(
        routes=[
            Route("/v1/status", status),
            Route("/v1/peers/reread", reread, methods=["POST"]),
            Route("/v1/rules", rules),
            Route("/v1/events", events),
            Route("/metrics", metrics),
            # A rule's name may hold a slash.
            Route("/v1/rules/{name:path}/start", start, methods=["POST"]),
            Route("/v1/rules/{name:path}/stop", stop, methods=["POST"]),
            Route("/v1/rules/{name:path}/release", release, methods=["POST"]),
            Route("/v1/rules/{name:path}/forget", forget, methods=["POST"]),
        ],
        exception_handlers={I2Error: _answer_error, Exception: _answer_error},
    )


async def _answer_error(_request: Request, error: Exception) -> Response:
    known = as_i2error(error)
    status = 404 if known.code is Code.RULE_UNKNOWN else 409 if known.exit_code == 2 else 500
    return Document(error_json(known), status_code=status)


async def serve_control(
    node: RunningNode, state_dir: Path, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Answers on ``state_dir/control.sock`` until cancelled, then removes the socket.

    The caller holds the state directory's lock, so a socket that is already there belongs to nobody.
    """
    with _listening(state_dir) as listener:
        config = Config()
        config.bind = [f"fd://{listener.detach()}"]
        config.alpn_protocols = ["http/1.1"]
        config.loglevel = "ERROR"
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, control_app(node), config))  # type: ignore[arg-type]
            task_status.started()


@contextlib.contextmanager
def _listening(state_dir: Path) -> Iterator[socket.socket]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_path(state_dir) as directory:
        path = f"{directory}/{SOCKET}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        # 0600 from the first moment: bind(2) takes the mode of the unbound socket. Never by umask, which is the whole
        # process's, while the sink's threads create files.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(path)
        try:
            yield listener
        finally:
            os.unlink(path)
