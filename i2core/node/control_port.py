"""Control over the network: TCP 26822 on a backup node, 26821 on a work node, with TLS and pins like all streams.

Who calls, decides what is there:

- a **console** (``[[node.console]]`` of the config): the whole control API, over HTTP, as on the Unix socket;
- a **work node** that is trusted: what this node has received of it, and nothing of others;
- a **stranger**: a try with a token, while one is open; else a closed connection;
- a backup node: nothing.

The streams come from the transport driver and not from Hypercorn's own TLS: that one takes a client's certificate only
from an authority, and does not tell the application which one it was. A console's bytes are handed to the Unix socket,
where the same application answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import trio

from i2core.api import Channel, LinkError, PeerRefused, UsageError
from i2core.config.model import NodeConfig
from i2core.node.enrolment import Enrolment
from i2core.node.line import QUESTION_BYTES, WITHIN_S, Question, read_line, send_line
from i2core.node.peer_book import PeerRole
from i2core.node.socket_path import SOCKET, short_path
from i2core.node.trust import Trust

WORK_PORT, BACKUP_PORT = 26821, 26822
GUESTS = 8
"""Strangers that may try a token at the same time; one more ends the oldest."""
_RELAY_BYTES = 64 * 1024


class ControlPlace(NamedTuple):
    """Where the control port listens."""

    host: str
    port: int
    wanted: bool
    """The config says so: that it cannot be had is an error, and not a line in the logbook."""


def control_place(config: NodeConfig) -> ControlPlace | None:
    """Where `config` puts the control port; None when it has none.

    A backup node listens where its data ports do, so that work nodes can enrol. A node with the work role alone
    listens when it has a console, or when told to. In plaintext nobody can be known: no control port, unless told to.
    """
    if config.control_port == 0:
        return None
    wanted = config.control_listen is not None or config.control_port is not None
    if config.backup is not None and not config.backup.plaintext:
        host, port = config.backup.listen, BACKUP_PORT
    elif wanted or config.consoles:
        host, port = "0.0.0.0", WORK_PORT if config.backup is None else BACKUP_PORT  # noqa: S104 (peers are pinned)
    else:
        return None
    return ControlPlace(config.control_listen or host, config.control_port or port, wanted)


class ControlPort:
    """Serves what comes in on the control channel. The transport gives it fingerprints in the place of names."""

    def __init__(
        self, state_dir: Path, trust: Trust, enrolment: Enrolment, rules_of: Callable[[str], list[dict[str, Any]]]
    ) -> None:
        self._state_dir = state_dir
        self._trust = trust
        self._enrolment = enrolment
        self._rules_of = rules_of
        self._guests: dict[trio.CancelScope, None] = {}

    def guest(self, channel: Channel, fingerprint: str) -> bool:
        """See `TransportContext.guest`."""
        del fingerprint
        try:
            return channel is Channel.CONTROL and self._enrolment.welcomes(trio.current_time())
        except UsageError:
            return False  # told when a token is made, or at the next start

    async def handle(self, stream: trio.abc.Stream, channel: Channel, fingerprint: str | None) -> None:
        """Serves one caller.

        Raises:
            PeerRefused: it is turned away.
            LinkError: it went, or said nothing in time.
            ProtocolError: what it said is no question.
        """
        del channel
        if fingerprint is None:
            raise PeerRefused("nobody is known in plaintext")
        console = self._trust.holder(PeerRole.CONSOLE, fingerprint)
        work = self._trust.holder(PeerRole.WORK, fingerprint)
        if console is not None:
            with self._trust.sessions.of(PeerRole.CONSOLE, console.name):
                await self._serve(stream, fingerprint, console=True)
        elif work is not None:
            with self._trust.sessions.of(PeerRole.WORK, work.name):
                await self._serve(stream, fingerprint, console=False)
        else:
            with self._guest_time():
                await self._serve(stream, fingerprint, console=False)

    async def _serve(self, stream: trio.abc.Stream, fingerprint: str, *, console: bool) -> None:
        with trio.move_on_after(WITHIN_S) as patience:
            try:
                begun = await stream.receive_some(QUESTION_BYTES)
            except trio.BrokenResourceError as error:
                raise LinkError("the connection broke") from error
        if patience.cancelled_caught:
            raise LinkError(f"nothing was said within {WITHIN_S:g} s")
        if not begun:
            return
        if begun[:1] != b"{":
            if not console:
                raise PeerRefused("it is no console")
            await self._relay(stream, bytes(begun))
            return
        question = Question.parse(await read_line(stream, QUESTION_BYTES, bytes(begun)))
        await send_line(stream, await self._answer(question, fingerprint))

    async def _answer(self, question: Question, fingerprint: str) -> Any:
        work = self._trust.holder(PeerRole.WORK, fingerprint)
        if question.ask == "enrol":
            return await self._enrolment.answer(question, fingerprint, trio.current_time())
        if question.ask == "rules" and work is not None:
            return self._rules_of(work.name)
        raise PeerRefused("it asked what it may not know")

    @contextmanager
    def _guest_time(self) -> Iterator[None]:
        if len(self._guests) >= GUESTS:
            oldest = next(iter(self._guests))
            del self._guests[oldest]
            oldest.cancel()
        with trio.move_on_after(WITHIN_S) as scope:
            self._guests[scope] = None
            try:
                yield
            finally:
                self._guests.pop(scope, None)
        if scope.cancelled_caught:
            raise PeerRefused("it is a stranger, and took too long to say why it came")

    async def _relay(self, stream: trio.abc.Stream, begun: bytes) -> None:
        with short_path(self._state_dir) as directory:
            inside = await trio.open_unix_socket(f"{directory}/{SOCKET}")
        async with inside, trio.open_nursery() as nursery:
            await inside.send_all(begun)

            async def answer() -> None:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    async for data in inside:
                        await stream.send_all(data)
                # The application ends a connection when it has answered all: so does this one.
                nursery.cancel_scope.cancel()

            nursery.start_soon(answer)
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while data := await stream.receive_some(_RELAY_BYTES):
                    await inside.send_all(data)
                await inside.send_eof()
                return
            nursery.cancel_scope.cancel()
