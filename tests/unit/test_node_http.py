"""The server of the control API accepts plain HTTP/1.1, and survives everything else."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from i2core.node.control import http as http_module
from i2core.node.control.http import BODY_BYTES, HEAD_BYTES, HttpServer

GET = b"GET /%s HTTP/1.1\r\nHost: x\r\n%s\r\n"


class Site:
    """A server with a small application, connected by socket pairs."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.reported: list[str] = []
        routes = [
            Route("/hello", _hello),
            Route("/echo", _echo, methods=["POST"]),
            Route("/broken", _broken),
        ]
        self.server = HttpServer(Starlette(routes=routes), self.reported.append)

    async def connect(self) -> trio.SocketStream:
        """A connection to the server."""
        here, there = trio.socket.socketpair()
        self.nursery.start_soon(self.server.connection, trio.SocketStream(there))
        return trio.SocketStream(here)

    async def ask(self, question: bytes, *, half_close: bool = False) -> bytes:
        """All data until the server closes the connection or sends nothing more."""
        async with await self.connect() as stream:
            try:
                await stream.send_all(question)
                if half_close:
                    await stream.send_eof()
            except trio.BrokenResourceError:
                pass
            answer = b""
            with trio.move_on_after(5):
                while True:
                    try:
                        data = await stream.receive_some()
                    except trio.BrokenResourceError:
                        break
                    answer += data
                    if not data:
                        break
            return answer


async def _hello(request: Request) -> Response:
    return PlainTextResponse(f"hello {request.query_params.get('who', '')}")


async def _echo(request: Request) -> Response:
    return PlainTextResponse(await request.body())


async def _broken(request: Request) -> Response:
    raise ZeroDivisionError(request.url.path)


@asynccontextmanager
async def _site() -> AsyncIterator[Site]:
    async with trio.open_nursery() as nursery:
        yield Site(nursery)
        nursery.cancel_scope.cancel()


CLOSE = b"Connection: close\r\n"


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0.1)


async def test_an_answer_and_the_next_on_the_same_connection(autojump_clock: Any) -> None:
    async with _site() as site:
        answer = await site.ask(GET % (b"hello?who=a", b"") + GET % (b"hello?who=b", CLOSE))
    assert answer.count(b"200") == 2
    assert answer.index(b"hello a") < answer.index(b"hello b")


async def test_a_body_arrives_whole(autojump_clock: Any) -> None:
    async with _site() as site:
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
        assert (await site.ask(head + b"abc")).endswith(b"abc")
        chunked = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        assert (await site.ask(chunked + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")).endswith(b"abc")


async def test_a_caller_that_expects_a_100_continue_gets_it(autojump_clock: Any) -> None:
    async with _site() as site:
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        assert (await site.ask(head)).startswith(b"HTTP/1.1 100 ")


async def test_head_has_no_body(autojump_clock: Any) -> None:
    async with _site() as site:
        answer = await site.ask(b"HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"content-length: 6" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("to", ["h2c", "websocket", "TLS/1.0"])
async def test_an_upgrade_is_not_accepted(to: str, autojump_clock: Any) -> None:
    more = f"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: {to}\r\nHTTP2-Settings: AAMAAABk\r\n"
    more += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    async with _site() as site:
        answer = await site.ask(GET % (b"hello", more.encode()))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert not site.reported


async def test_http_2_is_not_supported(autojump_clock: Any) -> None:
    async with _site() as site:
        answer = await site.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert answer.startswith((b"HTTP/1.1 505 ", b"HTTP/1.1 400 "))


@pytest.mark.parametrize(
    "question",
    [
        b"",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"GET /hel",
        GET % (b"hello", b""),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"\0" * 100,
        b"GET /" + b"x" * (2 * HEAD_BYTES),
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (2 * BODY_BYTES) + bytes(2 * BODY_BYTES),
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET hello HTTP/1.1\r\n\r\n",
        b"GET //%00%ff/../x HTTP/1.0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("half_close", [True, False])
async def test_after_any_request_the_next_one_is_answered(
    question: bytes, half_close: bool, autojump_clock: Any
) -> None:
    async with _site() as site:
        before = len(os.listdir("/proc/self/fd"))
        await site.ask(question, half_close=half_close)
        assert b"hello" in await site.ask(GET % (b"hello", CLOSE))
        await trio.testing.wait_all_tasks_blocked()
        assert len(os.listdir("/proc/self/fd")) == before
        assert not site.reported


async def test_a_failing_application_ends_its_own_request_alone(autojump_clock: Any) -> None:
    async with _site() as site:
        assert (await site.ask(GET % (b"broken", CLOSE))).startswith(b"HTTP/1.1 500 ")
        assert "ZeroDivisionError" in site.reported[0]
        assert b"hello" in await site.ask(GET % (b"hello", CLOSE))


async def test_connections_have_a_bound(autojump_clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "CONNECTIONS", 3)
    async with _site() as site:
        waiting = []
        for _ in range(3):
            waiting.append(await site.connect())
            await trio.testing.wait_all_tasks_blocked()  # the server has taken it: the first one waits longest
        assert b"hello" in await site.ask(GET % (b"hello", CLOSE)), "the one that waits longest has made room"
        with trio.fail_after(1):
            assert await waiting[0].receive_some() == b""
        for stream in waiting:
            await stream.aclose()


async def test_a_silent_caller_is_disconnected(autojump_clock: Any) -> None:
    async with _site() as site:
        began = trio.current_time()
        async with await site.connect() as stream:
            assert await stream.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(http_module.IDLE_S)


async def test_a_request_that_never_ends_is_disconnected(autojump_clock: Any) -> None:
    async with _site() as site:
        async with await site.connect() as stream:
            await stream.send_all(b"GET /hello HTTP/1.1\r\n")
            assert await stream.receive_some() == b""
        assert trio.current_time() >= http_module.WITHIN_S
