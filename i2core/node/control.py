"""The control API on the node's Unix socket: what `i2 rule …` and other local programs talk to.

The socket's mode, 0600 in a 0700 directory, is its authentication.

    GET  /v1/status                     the node
    GET  /v1/rules                      all rules, sent and received
    POST /v1/rules/NAME/start           {"name", "done"}: done is False when there was nothing to do
    POST /v1/rules/NAME/stop
    POST /v1/rules/NAME/release
    POST /v1/peers/reread               {"gained", "lost"}: names, after pairing or revoking changed the peer book

Errors answer 404 (no such rule), 409 (cannot be done here) or 500 with the document of `error_json`.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from i2core.api import Code, I2Error
from i2core.node.faults import as_i2error, error_json
from i2core.node.running import RunningNode
from i2core.node.socket_path import SOCKET, short_path

Endpoint = Callable[[Request], Awaitable[Response]]


def control_app(node: RunningNode) -> Starlette:
    """The API of `node`."""

    async def status(_request: Request) -> Response:
        return JSONResponse(node.status())

    async def rules(_request: Request) -> Response:
        return JSONResponse(node.rules())

    async def start(request: Request) -> Response:
        name = request.path_params["name"]
        return JSONResponse({"name": name, "done": node.start(name)})

    async def stop(request: Request) -> Response:
        name = request.path_params["name"]
        return JSONResponse({"name": name, "done": await node.stop(name)})

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
            # A rule's name may hold a slash.
            Route("/v1/rules/{name:path}/start", start, methods=["POST"]),
            Route("/v1/rules/{name:path}/stop", stop, methods=["POST"]),
            Route("/v1/rules/{name:path}/release", release, methods=["POST"]),
        ],
        exception_handlers={I2Error: _answer_error, Exception: _answer_error},
    )


async def _answer_error(_request: Request, error: Exception) -> Response:
    known = as_i2error(error)
    status = 404 if known.code is Code.RULE_UNKNOWN else 409 if known.exit_code == 2 else 500
    return JSONResponse(error_json(known), status_code=status)


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
