"""One question and its answer on the control channel, each a line of JSON.

This is all that an unknown node may send, so it is as small as possible: one short line of a fixed form within a short
time, or the connection is closed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
import trio

from i2core.api import Channel, ClientTransport, LinkError, Peer, PeerRefused, ProtocolError
from i2core.config.words import bilingual

QUESTION_BYTES = 4096
ANSWER_BYTES = 4 << 20
WITHIN_S = 10.0
"""Time limit of a question, and of an answer."""


@attrs.frozen(kw_only=True)
class Question:
    """The request of a node: ``"enrol"`` with name and secret, or ``"rules"``."""

    ask: str
    name: str = ""
    secret: bytes = attrs.field(default=b"", repr=False)

    @classmethod
    def parse(cls, line: bytes) -> Question:
        """Parses one line.

        Raises:
            ProtocolError: it is not a question.
        """
        try:
            found = json.loads(line)
            ask, name, secret = found["ask"], found.get("name", ""), bytes.fromhex(found.get("secret", ""))
            name.encode()  # no lone surrogates: names are looked up, compared and printed
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise ProtocolError("not a question") from error
        if not isinstance(ask, str) or not isinstance(name, str):
            raise ProtocolError("not a question")
        return cls(ask=ask, name=name, secret=secret)


async def read_line(stream: trio.abc.ReceiveStream, most: int, begun: bytes = b"") -> bytes:
    """The rest of the line that begins with `begun`.

    Raises:
        LinkError: the stream broke, or ended before the line did; or it took too long.
        ProtocolError: the line is longer than `most` bytes, or something follows it.
    """
    line = bytearray(begun)
    with trio.move_on_after(WITHIN_S):
        while b"\n" not in line and len(line) <= most:
            try:
                chunk = await stream.receive_some(most)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise LinkError("the connection broke") from error
            if not chunk:
                raise LinkError("the connection ended within a line")
            line += chunk
        if len(line) > most or line.index(b"\n") != len(line) - 1:
            raise ProtocolError("not one line")
        return bytes(line)
    raise LinkError(f"no whole line within {WITHIN_S:g} s")


async def send_line(stream: trio.abc.SendStream, document: Any) -> None:
    """Sends `document` as one line.

    Raises:
        LinkError: the stream broke, or the peer does not read.
    """
    with trio.move_on_after(WITHIN_S):
        try:
            await stream.send_all(json.dumps(document).encode() + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkError("the connection broke") from error
        return
    raise LinkError(f"not sent within {WITHIN_S:g} s")


async def ask(transport: ClientTransport, peer: Peer, question: Mapping[str, str]) -> Any:
    """The answer of `peer`, a JSON document.

    Raises:
        LinkError: it cannot be reached, or its answer is not valid.
        PeerRefused: it closed the connection instead of answering, or has another fingerprint than the pinned one.
    """
    stream = await transport.connect(peer, Channel.CONTROL)
    async with stream:
        await send_line(stream, question)
        try:
            first = await stream.receive_some(ANSWER_BYTES)
        except trio.BrokenResourceError as error:
            raise LinkError("the connection broke", obj=peer.name) from error
        if not first:
            raise PeerRefused(bilingual("it closed the connection", "对端关闭了连接"), obj=peer.name)
        line = await read_line(stream, ANSWER_BYTES, bytes(first))
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LinkError("its answer is not valid", obj=peer.name) from error
