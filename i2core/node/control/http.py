"""HTTP/1.1 for the control API, and nothing else: no HTTP/2, no upgrade, no websocket, no TLS of its own.

One connection is one task. An error in the request or in the application ends only that connection. Requests and
answers are held in memory: both are short.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

import h11
import trio
from starlette.types import ASGIApp, Message

HEAD_BYTES = 64 * 1024
BODY_BYTES = 64 * 1024
IDLE_S = 60.0
"""How long a connection may wait for its next request."""
WITHIN_S = 10.0
"""Time limit of a request, from its first byte on, and of an answer."""
CONNECTIONS = 128
"""Connections at the same time. If one more comes, the one that has been idle longest is closed; if none is idle, the
new one."""
_CHUNK_BYTES = 64 * 1024


class _Request(NamedTuple):
    head: h11.Request
    body: bytes


class _Answer:
    """The application's answer, collected until it is complete."""

    def __init__(self, request: _Request) -> None:
        self._request: bytes | None = request.body
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()

    async def receive(self) -> Message:
        """Returns the request's body once, then its end."""
        await trio.lowlevel.checkpoint()
        body, self._request = self._request, None
        return {"type": "http.disconnect"} if body is None else {"type": "http.request", "body": body}

    async def send(self, message: Any) -> None:
        """Takes a part of the answer."""
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")


class HttpServer:
    """Serves an ASGI application. `report` gets the traceback of each of its failures."""

    def __init__(self, app: ASGIApp, report: Callable[[str], None]) -> None:
        self._app = app
        self._report = report
        self._open = 0
        self._idle: dict[trio.CancelScope, None] = {}

    async def connection(self, stream: trio.SocketStream) -> None:
        """Serves one connection to its end. Raises nothing but cancellation."""
        if self._open >= CONNECTIONS:
            if not self._idle:
                await trio.aclose_forcefully(stream)
                return
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.cancel()
        self._open += 1
        try:
            await self._requests(stream)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # the caller closed the connection
        except Exception:
            self._report(traceback.format_exc())
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)

    async def _requests(self, stream: trio.SocketStream) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        while True:
            try:
                request = await self._request(http, stream)
            except h11.RemoteProtocolError as error:
                if http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    await self._send(http, stream, error.error_status_hint or 400)
                return
            if request is None:
                return
            if request.head.http_version not in (b"1.0", b"1.1"):
                await self._send(http, stream, 505)
                return
            answer = await self._answer(request)
            body = b"" if request.head.method == b"HEAD" else bytes(answer.body)
            await self._send(http, stream, answer.status or 500, answer.headers, body)
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return
            http.start_next_cycle()

    async def _request(self, http: h11.Connection, stream: trio.SocketStream) -> _Request | None:
        """The next request; None when the connection ends instead."""
        event = http.next_event()
        if event is h11.NEED_DATA:
            with trio.move_on_after(IDLE_S) as patience:
                self._idle[patience] = None
                try:
                    data = await stream.receive_some(_CHUNK_BYTES)
                finally:
                    self._idle.pop(patience, None)
                http.receive_data(bytes(data))
            if patience.cancelled_caught:
                return None
            event = http.next_event()
        head: h11.Request | None = None
        body = bytearray()
        with trio.fail_after(WITHIN_S):
            while not isinstance(event, h11.EndOfMessage):
                if isinstance(event, h11.Request):
                    head = event
                elif isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > BODY_BYTES:
                        raise h11.RemoteProtocolError("too long", error_status_hint=413)
                elif event is h11.NEED_DATA:
                    if http.they_are_waiting_for_100_continue:
                        go_on = h11.InformationalResponse(status_code=100, headers=[])
                        await stream.send_all(http.send(go_on) or b"")
                    http.receive_data(bytes(await stream.receive_some(_CHUNK_BYTES)))
                else:  # the connection ended
                    return None
                event = http.next_event()
        assert head is not None
        return _Request(head, bytes(body))

    async def _answer(self, request: _Request) -> _Answer:
        head = request.head
        path, _, query = head.target.partition(b"?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": head.http_version.decode("ascii"),
            "method": head.method.decode("ascii").upper(),
            "scheme": "http",
            "path": unquote(path.decode("ascii", "replace"), errors="surrogateescape"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(head.headers),
            "client": None,
            "server": None,
        }
        answer = _Answer(request)
        try:
            await self._app(scope, answer.receive, answer.send)
        except Exception:
            # The application also raises errors that it has answered.
            self._report(traceback.format_exc())
        return answer

    async def _send(
        self,
        http: h11.Connection,
        stream: trio.SocketStream,
        status: int,
        headers: list[tuple[bytes, bytes]] | None = None,
        body: bytes = b"",
    ) -> None:
        headers = headers or [(b"content-length", b"0"), (b"connection", b"close")]
        data = http.send(h11.Response(status_code=status, headers=headers)) or b""
        if body:
            data += http.send(h11.Data(data=body)) or b""
        data += http.send(h11.EndOfMessage()) or b""
        with trio.fail_after(WITHIN_S):
            await stream.send_all(data)
