"""Control over the network: TCP 26822 on a backup node, 26821 on a work node, with TLS and pins like all streams.

The access depends on the caller:

- a **console** (``[[node.console]]`` of the config): the whole control API, over HTTP, as on the Unix socket;
- a **work node** that is trusted: the rules that this node receives from it, and no others;
- a **stranger**: one attempt to pair with a token, while one is open; else the connection is closed;
- a backup node: no access.

TLS is that of the transport driver: the TLS of HTTP servers accepts a client's certificate only from an authority, and
does not give the certificate to the application. The bytes of a console are relayed to the Unix socket, where the same
application answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import trio

from i2core.api import Channel, Crowd, LinkError, PeerRefused, ProtocolError, UsageError
from i2core.config.model import NodeConfig
from i2core.node.control.question import QUESTION_BYTES, WITHIN_S, Question, read_line, send_line
from i2core.node.control.socket_path import SOCKET, short_path
from i2core.node.pairing.enrolment import Enrolment, EnrolmentRefused
from i2core.node.pairing.peer_book import PeerRole
from i2core.node.pairing.peers import KnownPeer
from i2core.node.pairing.trust import Trust

WORK_PORT, BACKUP_PORT = 26821, 26822
GUESTS = 8
"""Strangers that may try a token at the same time. If one more comes, the oldest of the address with most is
dropped."""
ASKING = 64
"""Questions of work nodes at the same time. If one more comes, the oldest of the node with most is dropped."""
_RELAY_BYTES = 64 * 1024


class ControlPlace(NamedTuple):
    """Where the control port listens."""

    host: str
    port: int
    wanted: bool
    """The config asks for it: a port that cannot be bound is then an error, not only a line in the log."""


def control_place(config: NodeConfig) -> ControlPlace | None:
    """The address of the control port by `config`; None if there is none.

    A backup node listens on the address of its data ports, so that work nodes can enrol. With `plaintext` no node
    enrols: then it listens only if the config names a console or a control port. The same holds for a node with only
    the work role.
    """
    if config.control_port == 0:
        return None
    wanted = config.control_listen is not None or config.control_port is not None
    if not (wanted or config.consoles) and (config.backup is None or config.backup.plaintext):
        return None
    if config.backup is not None:
        host, port = config.backup.listen, BACKUP_PORT
    else:
        host, port = "0.0.0.0", WORK_PORT  # noqa: S104 (peers are pinned)
    return ControlPlace(config.control_listen or host, config.control_port or port, wanted)


def address_of(stream: trio.abc.Stream) -> str:
    """The address of a guest, as given by the transport; empty if unknown."""
    return str(getattr(stream, "peer_address", ""))


class ControlPort:
    """Serves connections on the control channel. The transport gives it fingerprints instead of names."""

    def __init__(
        self, state_dir: Path, trust: Trust, enrolment: Enrolment, rules_of: Callable[[str], list[dict[str, Any]]]
    ) -> None:
        self._state_dir = state_dir
        self._trust = trust
        self._enrolment = enrolment
        self._rules_of = rules_of
        self._guests = Crowd(GUESTS)
        self._asking = Crowd(ASKING)

    def guest(self, channel: Channel, fingerprint: str) -> bool:
        """See `TransportContext.guest`."""
        del fingerprint
        try:
            return channel is Channel.CONTROL and self._enrolment.welcomes()
        except UsageError:
            return False  # reported when a token is made, or at the next start

    async def handle(self, stream: trio.abc.Stream, channel: Channel, fingerprint: str | None) -> None:
        """Serves one caller.

        Raises:
            PeerRefused: it was refused, sent no valid question, or broke off. The cause says who it is; the transport
                logs it with the address.
        """
        del channel
        if fingerprint is None:
            raise PeerRefused("a peer in plaintext has no identity")
        console = self._trust.holder(PeerRole.CONSOLE, fingerprint)
        work = self._trust.holder(PeerRole.WORK, fingerprint)
        try:
            await self._receive(stream, fingerprint, console, work)
        except (LinkError, ProtocolError) as error:
            known = console or work
            cause = f"{error.cause} (certificate {fingerprint})" if known is None else f"{known.name}: {error.cause}"
            raise PeerRefused(cause) from error

    async def _receive(
        self, stream: trio.abc.Stream, fingerprint: str, console: KnownPeer | None, work: KnownPeer | None
    ) -> None:
        if console is not None:
            with self._trust.sessions.of(PeerRole.CONSOLE, console.name):
                await self._serve(stream, fingerprint, console=True)
        elif work is not None:
            # All connections of one node count as one address.
            with self._trust.sessions.of(PeerRole.WORK, work.name), self._asking.stay(work.name, 3 * WITHIN_S):
                await self._serve(stream, fingerprint, console=False)
        else:
            with self._guests.stay(address_of(stream), WITHIN_S) as patience:
                await self._serve(stream, fingerprint, console=False)
            if patience.cancelled_caught:
                raise PeerRefused("an unknown node that sent no request in time, or was dropped in favour of others")

    async def _serve(self, stream: trio.abc.Stream, fingerprint: str, *, console: bool) -> None:
        with trio.move_on_after(WITHIN_S) as patience:
            try:
                begun = await stream.receive_some(QUESTION_BYTES)
            except trio.BrokenResourceError as error:
                raise LinkError("the connection broke") from error
        if patience.cancelled_caught:
            raise LinkError(f"nothing was received within {WITHIN_S:g} s")
        if not begun:
            return
        if begun[:1] != b"{":
            if not console:
                raise PeerRefused("it is not a console")
            await self._relay(stream, bytes(begun))
            return
        question = Question.parse(await read_line(stream, QUESTION_BYTES, bytes(begun)))
        try:
            answer = await self._answer(question, fingerprint, address_of(stream))
        except EnrolmentRefused as refused:
            await send_line(stream, refused.answer)
            raise
        await send_line(stream, answer)

    async def _answer(self, question: Question, fingerprint: str, address: str) -> Any:
        work = self._trust.holder(PeerRole.WORK, fingerprint)
        if question.ask == "enrol":
            return await self._enrolment.answer(question, fingerprint, address)
        if question.ask == "rules" and work is not None:
            return self._rules_of(work.name)
        raise PeerRefused("it asked for something that it may not know")

    async def _relay(self, stream: trio.abc.Stream, begun: bytes) -> None:
        with short_path(self._state_dir) as directory:
            inside = await trio.open_unix_socket(f"{directory}/{SOCKET}")
        async with inside, trio.open_nursery() as nursery:
            await inside.send_all(begun)

            async def answer() -> None:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    async for data in inside:
                        await stream.send_all(data)
                # The application closes the connection after its last answer; this side closes too.
                nursery.cancel_scope.cancel()

            nursery.start_soon(answer)
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while data := await stream.receive_some(_RELAY_BYTES):
                    await inside.send_all(data)
                await inside.send_eof()
                return
            nursery.cancel_scope.cancel()
