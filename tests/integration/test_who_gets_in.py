"""A whole backup node on real sockets, and its visitors: they pair by a token, are refused, or are disconnected."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import h11
import pytest
import trio
import trio.testing

from i2core.api import (
    DATA_CHANNELS,
    Channel,
    ClientTransport,
    DriverKind,
    I2Error,
    LinkError,
    Peer,
    PeerRefused,
    TransportContext,
    UsageError,
)
from i2core.config.load import load
from i2core.config.options import structure_options
from i2core.node.control.client import control_client
from i2core.node.control.question import ask, read_line
from i2core.node.daemon import control_port
from i2core.node.daemon.supervisor import run_node
from i2core.node.pairing import enrolment
from i2core.node.pairing.enrolment import join
from i2core.node.pairing.identity import Identity
from i2core.node.pairing.peer_book import PeerBook, PeerRole, Revoked
from i2core.node.pairing.token import Token, TokenShelf
from i2core.registry import Registry
from i2core.wire.frame import FrameStream, FrameType
from i2core.wire.messages import BrakeLimits, Hello, OrphanPolicy, Welcome, dump, parse

CHANNELS = [*DATA_CHANNELS, Channel.CONTROL]
WITHIN_S = 30.0


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        bound = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in bound]


@attrs.frozen
class Caller:
    """A node with a certificate."""

    name: str
    state_dir: Path
    identity: Identity
    transport: ClientTransport


@attrs.define
class Backup:
    """The node under test."""

    place: Path
    registry: Registry
    nursery: trio.Nursery
    ports: dict[Channel, int] = attrs.field(factory=lambda: dict(zip(CHANNELS, free_ports(3), strict=True)))
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _ended: trio.Event = attrs.field(factory=trio.Event)

    @property
    def state_dir(self) -> Path:
        return self.place / "state"

    @property
    def identity(self) -> Identity:
        return Identity.load_or_create(self.state_dir, "bak1")

    def peer(self, **changed: Any) -> Peer:
        return Peer("bak1", "127.0.0.1", self.ports, self.identity.fingerprint)._replace(**changed)

    def token(self, *, name: str | None = None, lifetime_s: float = 60) -> Token:
        secret = TokenShelf(self.state_dir).make(lifetime_s, name)
        return Token(
            name="bak1",
            address="127.0.0.1",
            port=self.ports[Channel.CONTROL],
            fingerprint=self.identity.fingerprint,
            secret=secret,
        )

    def log(self) -> str:
        return (self.state_dir / "log" / "node.jsonl").read_text()

    async def start(self, extra: str = "", head: str = "") -> None:
        (self.place / "replicas").mkdir(exist_ok=True)
        path = self.place / "node.toml"
        path.write_text(
            f'[node]\nname = "bak1"\nstate_dir = "{self.state_dir}"\ncontrol_port = {self.ports[Channel.CONTROL]}\n'
            f'{head}\n[backup]\nlisten = "127.0.0.1"\nallow_roots = ["{self.place}/replicas"]\n'
            f"mirror_port = {self.ports[Channel.MIRROR]}\nreplication_port = {self.ports[Channel.REPLICATION]}\n{extra}"
        )
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        before = self._times_up()
        self.nursery.start_soon(self._run, path)
        await eventually("the node is up", lambda: self._times_up() > before)

    def _times_up(self) -> int:
        return self.log().count("bak1 is up") if (self.state_dir / "log").exists() else 0

    async def _run(self, path: Path) -> None:
        with self._scope:
            await run_node(load(path, self.registry), self.registry)
        self._ended.set()

    async def stop(self) -> None:
        self._scope.cancel()
        await self._ended.wait()

    async def revoke(self, caller: Caller) -> None:
        gone = Revoked(name=caller.name, fingerprint=caller.identity.fingerprint, since="2026-01-01T00:00:00+00:00")
        PeerBook(self.state_dir).change(lambda book: book.without([gone]))
        await self.reread()

    async def reread(self) -> None:
        def poke() -> None:
            with control_client(self.state_dir) as daemon:
                daemon.reread_peers()

        await trio.to_thread.run_sync(poke)


@pytest.fixture
async def backup(tmp_path: Path) -> AsyncIterator[Backup]:
    async with trio.open_nursery() as nursery:
        yield Backup(tmp_path / "bak1", Registry.load(), nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def place(tmp_path: Path) -> None:
    (tmp_path / "bak1").mkdir()


@asynccontextmanager
async def caller(tmp_path: Path, name: str) -> AsyncIterator[Caller]:
    identity = Identity.load_or_create(tmp_path / name, name)
    spec = Registry.load().driver(DriverKind.CLIENT_TRANSPORT, "tcp")
    context = TransportContext(certificate=identity.certificate, key=identity.key, peers={})
    async with spec.open(structure_options(spec, {}), context) as transport:
        yield Caller(name, tmp_path / name, identity, transport)


@pytest.fixture
async def web1(tmp_path: Path) -> AsyncIterator[Caller]:
    async with caller(tmp_path, "web1") as one:
        yield one


@pytest.fixture
async def web2(tmp_path: Path) -> AsyncIterator[Caller]:
    async with caller(tmp_path, "web2") as one:
        yield one


async def pair(backup: Backup, one: Caller, token: Token, *, name: str = "", pinned: str | None = None) -> None:
    await join(token, name or one.name, "127.0.0.1", one.transport, one.state_dir, pinned=pinned)


async def eventually(what: str, condition: Callable[[], bool]) -> None:
    with trio.move_on_after(WITHIN_S):
        while not condition():  # noqa: ASYNC110 (a file has no event)
            await trio.sleep(0.01)
        return
    raise AssertionError(f"not within {WITHIN_S:g} s: {what}")


async def drained(stream: trio.abc.Stream) -> bytes:
    """All data until the other side closes, in whatever way."""
    got = b""
    with contextlib.suppress(trio.BrokenResourceError):
        async for data in stream:
            got += data
    return got


def naked_tls(one: Caller | None) -> ssl.SSLContext:
    """A TLS client that accepts any server, with or without a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if one is not None:
        context.load_cert_chain(one.identity.certificate, one.identity.key)
    return context


# ------------------------------------------------------------------------------------------------ strangers


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.value)
async def test_a_stranger_gets_a_closed_connection_and_a_line(backup: Backup, web1: Caller, channel: Channel) -> None:
    await backup.start()
    port = backup.ports[channel]
    with trio.fail_after(WITHIN_S):
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\xff" * 70_000, b'{"ask":"rules"}\n'):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                with contextlib.suppress(trio.BrokenResourceError):
                    await stream.send_all(garbage)
                answer = await drained(stream)
                # At most TLS's own alert: a record of type 21 that says that this was no TLS.
                assert answer == b"" or (answer[0] == 21 and len(answer) <= 7), answer
        for known in (None, web1):
            tls = trio.SSLStream(await trio.open_tcp_stream("127.0.0.1", port), naked_tls(known))
            with contextlib.suppress(trio.BrokenResourceError):
                await tls.send_all(b'{"ask": "rules"}\n')
            assert await drained(tls) == b""
            await trio.aclose_forcefully(tls)
    await eventually("a line in the logbook", lambda: "connection from 127.0.0.1 refused" in backup.log())
    # The others within the minute are only counted.
    assert backup.log().count('"line": "connection from') == 1


async def test_a_stranger_can_do_nothing_but_try_a_token(backup: Backup, web1: Caller) -> None:
    await backup.start()
    backup.token()
    with trio.fail_after(WITHIN_S):
        for said in (
            b"GET /v1/rules HTTP/1.1\r\nhost: x\r\n\r\n",
            b'{"ask": "rules"}\n',
            b'{"ask": "enrol"}\n',
            b'{"ask": "enrol", "name": "web1", "secret": "zz"}\n',
            b'{"ask": "enrol", "name": 5, "secret": ""}\n',
            b'{"ask": "enrol", "name": "\\ud800", "secret": ""}\n',
            b"{}\n",
            b"[" * 4000 + b"\n",
            b"{" + b" " * 5000,
            b'{"ask": "enrol"}\n{"ask": "enrol"}\n',
            bytes(range(256)),
        ):
            async with await web1.transport.connect(backup.peer(), Channel.CONTROL) as stream:
                await stream.send_all(said)
                answer = await drained(stream)
                assert answer == b"" or json.loads(answer) == enrolment.WRONG_TOKEN, said
    assert PeerBook(backup.state_dir).read().enrolled == ()


async def test_silent_strangers_are_disconnected_first(backup: Backup, web1: Caller, web2: Caller) -> None:
    await backup.start()
    token = backup.token()
    with trio.fail_after(WITHIN_S):
        silent = [await web1.transport.connect(backup.peer(), Channel.CONTROL) for _ in range(control_port.GUESTS)]
        await pair(backup, web2, token)
        assert await drained(silent[0]) == b""
        for stream in silent:
            await trio.aclose_forcefully(stream)


# ------------------------------------------------------------------------------------------------ tokens


async def test_pairing_makes_both_sides_trust(backup: Backup, web1: Caller) -> None:
    await backup.start()
    with pytest.raises(PeerRefused):
        await web1.transport.connect(backup.peer(), Channel.MIRROR)
    await pair(backup, web1, backup.token())
    for channel in (Channel.MIRROR, Channel.REPLICATION):
        await (await web1.transport.connect(backup.peer(), channel)).aclose()
    (here,) = PeerBook(web1.state_dir).read().enrolled
    assert (here.name, here.fingerprint, here.role) == ("bak1", backup.identity.fingerprint, PeerRole.BACKUP)
    (there,) = PeerBook(backup.state_dir).read().enrolled
    assert (there.name, there.fingerprint, there.role) == ("web1", web1.identity.fingerprint, PeerRole.WORK)
    await backup.stop()
    await backup.start()
    await (await web1.transport.connect(backup.peer(), Channel.MIRROR)).aclose()


async def test_wrong_used_and_expired_tokens_look_the_same(backup: Backup, web1: Caller, web2: Caller) -> None:
    await backup.start()
    backup.token()  # another is open: all get as far as to be asked
    used, expired = backup.token(), backup.token(lifetime_s=0.001)
    await pair(backup, web1, used)
    causes = set()
    for token in (used, expired, attrs.evolve(used, secret=b"\1" * 24), attrs.evolve(used, secret=b"")):
        with pytest.raises(PeerRefused) as refused:
            await pair(backup, web2, token)
        causes.add(str(refused.value))
    assert len(causes) == 1
    assert "wrong, used or expired" in causes.pop()
    assert PeerBook(web2.state_dir).read().enrolled == ()
    with pytest.raises(PeerRefused):
        await web2.transport.connect(backup.peer(), Channel.MIRROR)
    await eventually("a line with the address", lambda: "connection from 127.0.0.1 refused: its token" in backup.log())
    assert used.secret.hex() not in backup.log()


async def test_a_lost_answer_costs_nothing(backup: Backup, web1: Caller) -> None:
    """The backup node trusts the work node already when that asks again with the used token."""
    await backup.start()
    token = backup.token()
    for _ in range(2):
        await pair(backup, web1, token)
    (web1.state_dir / "peers.json").unlink()
    await pair(backup, web1, token)
    assert len(PeerBook(backup.state_dir).read().enrolled) == 1


async def test_a_name_in_use_cannot_be_taken(backup: Backup, web1: Caller, web2: Caller) -> None:
    await backup.start()
    await pair(backup, web1, backup.token())
    with pytest.raises(PeerRefused, match="another node is paired under this name"):
        await pair(backup, web2, backup.token(), name="web1")
    with pytest.raises(PeerRefused, match="for a node of another name"):
        await pair(backup, web2, backup.token(name="web1"))
    for bad in ("", "a/b", "sha256:aa", "x\n", "." * 3):
        with pytest.raises(PeerRefused, match="another name"):
            await ask_to_enrol(backup, web2, backup.token(), bad)
    old = await web1.transport.connect(backup.peer(), Channel.MIRROR)
    await pair(backup, web2, backup.token(name="web1"), name="web1")
    with trio.fail_after(WITHIN_S):
        assert await drained(old) == b"", "the one whose place was taken still has its session"
    with pytest.raises(PeerRefused):
        await web1.transport.connect(backup.peer(), Channel.MIRROR)


async def ask_to_enrol(backup: Backup, one: Caller, token: Token, name: str) -> None:
    answer = await ask(one.transport, backup.peer(), {"ask": "enrol", "name": name, "secret": token.secret.hex()})
    raise PeerRefused(answer["fault"])


async def test_who_uses_a_valid_token_under_a_wrong_name_is_logged(backup: Backup, web2: Caller) -> None:
    await backup.start()
    with pytest.raises(PeerRefused, match="for a node of another name"):
        await pair(backup, web2, backup.token(name="web1"))
    said = "connection from 127.0.0.1 refused: a valid token, used as web2: the token is for a node of another name"
    await eventually("a line with the address", lambda: said in backup.log())
    assert web2.identity.fingerprint in backup.log()


async def test_a_refusal_comes_in_both_languages(backup: Backup, web2: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    await backup.start()
    token = backup.token(name="web1")
    for language, name in (("en", "the token is for a node of another name"), ("zh", "该令牌属于另一个名称的节点")):
        monkeypatch.setenv("I2_LANG", language)
        with pytest.raises(PeerRefused, match=name):
            await pair(backup, web2, token)
        with pytest.raises(PeerRefused, match="wrong, used or expired" if language == "en" else "错误、已使用或已过期"):
            await pair(backup, web2, attrs.evolve(token, secret=b"\1" * 24))


async def test_the_config_wins_on_both_sides(backup: Backup, web1: Caller, web2: Caller) -> None:
    await backup.start(f'[[backup.peer]]\nname = "web1"\nfingerprint = "{web1.identity.fingerprint}"\n')
    with pytest.raises(PeerRefused, match="config there"):
        await pair(backup, web2, backup.token(name="web1"), name="web1")
    with pytest.raises(PeerRefused, match="config there"):
        await pair(backup, web1, backup.token(), name="web9")
    with pytest.raises(UsageError, match="config pins another"):
        await pair(backup, web2, backup.token(), pinned=web1.identity.fingerprint)
    assert PeerBook(backup.state_dir).read().enrolled == ()


async def test_a_false_backup_node_gets_no_secret(backup: Backup, web1: Caller, web2: Caller) -> None:
    """A server with another certificate at that address sees neither the token nor the name."""
    await backup.start()
    token = attrs.evolve(backup.token(), fingerprint=web2.identity.fingerprint)
    with pytest.raises(PeerRefused, match="its certificate is"):
        await pair(backup, web1, token)
    assert "its token" not in backup.log()


async def test_a_good_token_pairs_whatever_was_tried_before(
    backup: Backup, web1: Caller, web2: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolment, "SLOWEST_S", 0.05)
    await backup.start()
    good = backup.token()
    for _ in range(40):
        with pytest.raises(PeerRefused, match="wrong, used or expired"):
            await pair(backup, web1, attrs.evolve(good, secret=b"\1" * 24))
    await pair(backup, web2, good)


async def test_a_late_visitor_does_not_learn_whether_its_token_is_wrong(backup: Backup, web1: Caller) -> None:
    """The token was not checked: when no token is open, strangers are refused before they can send one."""
    await backup.start()
    with pytest.raises(PeerRefused) as refused:
        await pair(backup, web1, backup.token(lifetime_s=0.001))
    assert "does not accept tokens now" in refused.value.cause
    assert "wrong" not in refused.value.cause


@pytest.mark.parametrize("said", [b"{}\n", b'{"ask": "secrets"}\n', b"GET / HTTP/1.1\r\n\r\n", b'{"ask'])
async def test_who_asks_badly_is_named_with_its_address(backup: Backup, web1: Caller, said: bytes) -> None:
    await backup.start()
    await pair(backup, web1, backup.token())
    async with await web1.transport.connect(backup.peer(), Channel.CONTROL) as stream:
        await stream.send_all(said)
    await eventually("a line", lambda: "connection from 127.0.0.1 refused: web1: " in backup.log())
    assert "control stream ended" not in backup.log()


# ------------------------------------------------------------------------------------------------ revocation


async def test_a_revocation_ends_sessions_and_stays(backup: Backup, web1: Caller, web2: Caller) -> None:
    await backup.start(f'[[backup.peer]]\nname = "web1"\nfingerprint = "{web1.identity.fingerprint}"\n')
    await pair(backup, web2, backup.token())
    sessions = {one.name: await greeted(backup, one) for one in (web1, web2)}
    await backup.revoke(web1)
    with trio.fail_after(WITHIN_S):
        assert await drained(sessions["web1"]) == b""
        async with await web2.transport.connect(backup.peer(), Channel.REPLICATION) as stream:
            frames = FrameStream(stream)
            await frames.send(FrameType.HELLO, hello(backup, "web2", Channel.REPLICATION))
            answer = await frames.receive()
            assert answer is not None
            assert answer.type is FrameType.WELCOME, "a revocation affects no other node"
    for _ in range(2):
        for channel in CHANNELS:
            with pytest.raises(PeerRefused):
                await web1.transport.connect(backup.peer(), channel)
        assert "web1 is no longer trusted" in backup.log()
        assert f"web1 was revoked here (certificate {web1.identity.fingerprint})" in backup.log()
        await backup.stop()
        await backup.start(f'[[backup.peer]]\nname = "web1"\nfingerprint = "{web1.identity.fingerprint}"\n')
    await pair(backup, web1, backup.token())
    await (await web1.transport.connect(backup.peer(), Channel.MIRROR)).aclose()
    await trio.aclose_forcefully(sessions["web2"])


def hello(backup: Backup, rule: str, channel: Channel) -> bytes:
    return dump(
        Hello(
            version="0",
            rule=rule,
            channel=channel.value,
            epoch=1,
            targets=[str(backup.place / "replicas" / rule)],
            codecs=[],
            orphans=OrphanPolicy(),
            brake=BrakeLimits(share=1, window_s=60, least=1, on=False),
        )
    )


async def greeted(backup: Backup, one: Caller) -> trio.abc.Stream:
    """A session of that node on the mirror channel, welcomed."""
    stream = await one.transport.connect(backup.peer(), Channel.MIRROR)
    frames = FrameStream(stream)
    await frames.send(FrameType.HELLO, hello(backup, one.name, Channel.MIRROR))
    answer = await frames.receive()
    assert answer is not None
    assert answer.type is FrameType.WELCOME, bytes(answer.payload)
    assert parse(answer.payload, Welcome).node == "bak1"
    return stream


# ------------------------------------------------------------------------------------------------ control


async def request(stream: trio.abc.Stream, method: str, target: str) -> tuple[int, Any]:
    """One HTTP request over a stream; status and JSON document."""
    http = h11.Connection(h11.CLIENT)
    head = h11.Request(method=method, target=target, headers=[("host", "i2"), ("content-length", "0")])
    await stream.send_all((http.send(head) or b"") + (http.send(h11.EndOfMessage()) or b""))
    status, body = 0, b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(4096)))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            return status, json.loads(body)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Identity]:
    yield Identity.load_or_create(tmp_path / "office", "office")


async def test_a_console_has_the_whole_control_api(backup: Backup, tmp_path: Path, office: Identity) -> None:
    await backup.start(head=f'[[node.console]]\nname = "office"\nfingerprint = "{office.fingerprint}"\n')
    async with caller(tmp_path, "office") as console:
        async with await console.transport.connect(backup.peer(), Channel.CONTROL) as stream:
            status, found = await request(stream, "GET", "/v1/status")
            assert (status, found["name"]) == (200, "bak1")
        async with await console.transport.connect(backup.peer(), Channel.CONTROL) as stream:
            assert (await request(stream, "POST", "/v1/rules/none/start"))[0] == 404
        with pytest.raises(PeerRefused):
            await console.transport.connect(backup.peer(), Channel.MIRROR)
        open_one = await console.transport.connect(backup.peer(), Channel.CONTROL)
        assert (await request(open_one, "GET", "/v1/status"))[0] == 200
        await backup.revoke(console)
        with trio.fail_after(WITHIN_S):
            assert await drained(open_one) == b""


async def test_a_work_node_reads_its_own_and_nothing_else(backup: Backup, web1: Caller, web2: Caller) -> None:
    await backup.start()
    for one in (web1, web2):
        await pair(backup, one, backup.token())
    session = await greeted(backup, web1)
    found = await ask(web1.transport, backup.peer(), {"ask": "rules"})
    assert [(rule["name"], rule["peer"]) for rule in found] == [("web1", "web1")]
    assert await ask(web2.transport, backup.peer(), {"ask": "rules"}) == []
    with trio.fail_after(WITHIN_S):
        for said in (b"GET /v1/rules HTTP/1.1\r\nhost: i2\r\n\r\n", b'{"ask": "stop"}\n'):
            async with await web2.transport.connect(backup.peer(), Channel.CONTROL) as stream:
                await stream.send_all(said)
                assert await drained(stream) == b""
    await trio.aclose_forcefully(session)


async def test_a_console_that_disconnects_or_sends_nothing(backup: Backup, tmp_path: Path, office: Identity) -> None:
    await backup.start(head=f'[[node.console]]\nname = "office"\nfingerprint = "{office.fingerprint}"\n')
    async with caller(tmp_path, "office") as console:
        for said in (
            b"",
            b"GET /v1/sta",
            b"\0" * 100_000,
            b"POST /v1/rules/a/start HTTP/1.1\r\ncontent-length: 9\r\n\r\n",
        ):
            stream = await console.transport.connect(backup.peer(), Channel.CONTROL)
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(said)
            await trio.aclose_forcefully(stream)
        async with await console.transport.connect(backup.peer(), Channel.CONTROL) as stream:
            assert (await request(stream, "GET", "/v1/status"))[0] == 200


async def test_a_line_has_its_limits() -> None:
    near, far = trio.testing.memory_stream_pair()
    await near.send_all(b"a" * 20)
    with pytest.raises(I2Error):
        await read_line(far, 10)
    await near.aclose()
    with pytest.raises(LinkError):
        await read_line(far, 1000)
