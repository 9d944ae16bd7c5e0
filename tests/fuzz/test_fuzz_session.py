"""A backup node serves a hostile peer: every frame in every order, valid and broken, with paths that lead outside.

The server is the real one, with the real sink on a real directory; only the wire is a pair of memory streams.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from i2core.api import Channel, Code, Entry, Kind, LinkError, Meta, ProtocolError, Record
from i2core.api.inode_flags import EVERY_FLAG, UNREAD
from i2core.config.model import BackupRole
from i2core.registry import Registry
from i2core.rule.backup.service import BackupService
from i2core.rule.backup.session import inbox
from i2core.wire.encoding import encode_records
from i2core.wire.frame import FrameStream, FrameType
from i2core.wire.listing import Chunk, encode_survey
from i2core.wire.messages import PROTOCOL_VERSION, Fault, Welcome, parse
from i2core.wire.questions import HashQuery, NamesQuery, OrphanList

from .mutation import CORPUS, corpus, mutated

REGISTRY = Registry.load()
SOON_S = 60.0
"""For what takes milliseconds: the machines that run this are shared."""
STAY_S = 1.0
GREETINGS = corpus("greeting")
PLAIN = (CORPUS / "greeting" / "plain.json").read_bytes()
HEADER = struct.Struct("<IBBHQ")

names = st.sampled_from(
    [b"a", b"b", b"dir", b"way", b"file", b"new\nline", b"\xff\xfe", b"n" * 255, b"n" * 256, b".i2-x", b"..", b".", b""]
)
paths = st.one_of(
    st.lists(names, max_size=4).map(b"/".join),
    st.sampled_from(
        [b"../outside/victim", b"/etc/passwd", b"way/victim", b"way", b"a\0b", b"x/" * 3000 + b"x", b"dir/.."]
    ),
)
numbers = st.sampled_from([0, 1, 7, 4096, 65536, 65537, (1 << 31) - 1, 1 << 40, (1 << 63) - 1])
modes = st.sampled_from([0o100644, 0o40755, 0o120777, 0o20666, 0o60666, 0o140755, 0, 0xFFFFFFFF, 0o104777])
flags = st.sampled_from([UNREAD, UNREAD, 0, EVERY_FLAG, 0x30 << 32, 7])
metas = st.none() | st.builds(
    Meta,
    modes,
    st.sampled_from([0, 0xFFFFFFFF]),
    st.sampled_from([0, 0xFFFFFFFF]),
    st.sampled_from([0, -1, (1 << 63) - 1]),
    st.none() | st.just(()) | st.just(((b"user.a", b"b"), (b"no.such", b""), (b"n" * 300, b""))),
    flags,
)
records = st.builds(
    Record,
    kind=st.sampled_from(Kind),
    root=st.sampled_from([0, 0, 0, 0, 1, 65535]),
    path=paths,
    other=paths,
    meta=metas,
    offset=numbers,
    size=numbers,
    data=st.binary(max_size=50),
    staged=st.booleans(),
)
entries = st.builds(
    Entry,
    name=names,
    mode=modes,
    uid=st.just(0),
    gid=st.just(0),
    size=numbers,
    mtime_ns=st.sampled_from([0, -1, 1 << 62]),
    nlink=st.sampled_from([0, 1, 2]),
    ino=st.just(0),
    dev=st.just(0),
    rdev=st.sampled_from([0, 259]),
    ctime_ns=st.just(0),
    blocks=st.just(0),
    target=st.sampled_from([b"", b"/etc"]),
    xattrs=st.sampled_from([0, (1 << 64) - 1]),
    flags=flags,
)
chunks = st.builds(
    Chunk,
    root=st.sampled_from([0, 0, 0, 1, 65535]),
    path=paths,
    here=entries,
    first=st.booleans(),
    last=st.booleans(),
    strict=st.booleans(),
    entries=st.lists(entries, max_size=4),
    links=st.dictionaries(st.integers(0, 4), paths, max_size=1),
)
queries = st.builds(
    HashQuery,
    st.sampled_from([0, 1]),
    paths,
    numbers,
    st.sampled_from([0, 1, 65536, 65537]),
    st.booleans(),
    st.booleans(),
)
orphans = st.builds(OrphanList, st.sampled_from([0, 1]), paths, st.lists(names, max_size=4))
times = st.sampled_from([0, 0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
sense = st.one_of(
    st.builds(encode_records, st.lists(records, max_size=6), times).map(lambda raw: (FrameType.BATCH, raw)),
    st.lists(chunks, max_size=3).map(lambda found: (FrameType.SURVEY, encode_survey(found))),
    queries.map(lambda query: (FrameType.HASHES, query.encode())),
    orphans.map(lambda found: (FrameType.ORPHANS, found.encode())),
    st.builds(NamesQuery, st.sampled_from([0, 1]), paths, st.booleans()).map(
        lambda query: (FrameType.NAMES, query.encode())
    ),
    st.sampled_from([FrameType.FLUSH, FrameType.PING]).map(lambda kind: (kind, b"")),
)


@st.composite
def frames(draw: st.DrawFn) -> tuple[int, bytes, int, int]:
    """One frame: mostly of a known type, its payload valid or mutated; with the next seq, or any."""
    kind, payload = draw(sense)
    if draw(st.integers(0, 3)) == 0:
        payload = draw(mutated([payload], most=3))
    if draw(st.integers(0, 9)) == 0:
        kind = draw(st.sampled_from(FrameType))
    seq = draw(st.sampled_from([-1, -1, -1, 0, 1, 1 << 63, (1 << 64) - 1]))
    return int(kind), payload, draw(st.integers(0, 3)), seq


greetings = st.sampled_from([PLAIN, PLAIN, PLAIN, *GREETINGS])


def filled(greeting: bytes, target: Path) -> bytes:
    """A greeting of the corpus, as it is sent."""
    protocol = str(PROTOCOL_VERSION).encode()
    return greeting.strip().replace(b"TARGET", os.fsencode(target)).replace(b"PROTOCOL", protocol)


class Site:
    """A directory with a target, and files beside it that must never change; a symlink in the target leads there."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.target = place / "target"
        self.outside = place / "outside"
        for directory in (self.target / "dir", self.outside):
            directory.mkdir(parents=True)
        (self.outside / "victim").write_text("untouched")
        os.utime(self.outside, ns=(1, 1))
        (self.target / "way").symlink_to(self.outside)
        (self.target / "file").write_bytes(b"x" * 70_000)

    def picture(self) -> list[tuple[object, ...]]:
        """All that is outside the target."""
        found: list[tuple[object, ...]] = [tuple(sorted(os.listdir(self.place)))]
        for path in sorted([self.outside, *self.outside.rglob("*")]):
            state = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found.append((str(path), state.st_mode, state.st_uid, state.st_nlink, state.st_mtime_ns, content))
        return found

    def greeting(self, text: bytes) -> bytes:
        return filled(text, self.target)


async def serve(site: Site, sent: bytes, channel: Channel) -> tuple[list[tuple[str, Code | None, str]], bytes]:
    """The node's log and answers after the peer has sent all of this and closed the connection."""
    said: list[tuple[str, Code | None, str]] = []
    service = BackupService(
        BackupRole(allow_roots=(os.fsencode(site.target),)),
        registry=REGISTRY,
        state_dir=site.place / "state",
        say=lambda rule, code, line: said.append((rule, code, line)),
    )
    near, far = memory_stream_pair()
    answered = bytearray()

    async def read() -> None:
        # A held delete is held as long as its peer is connected: so the peer disconnects at the end.
        with trio.move_on_after(STAY_S):
            async for data in near:
                answered.extend(data)
        await near.aclose()

    with trio.fail_after(SOON_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await near.send_all(sent)
            await near.send_eof()
            # A crash of the server would come out of here.
            await service.handle(far, channel, "peer")
    return said, bytes(answered)


async def frames_of(raw: bytes) -> list[tuple[FrameType, bytes]]:
    near, far = memory_stream_pair()
    await near.send_all(raw)
    await near.send_eof()
    stream, found = FrameStream(far), []
    while (frame := await stream.receive()) is not None:
        found.append((frame.type, bytes(frame.payload)))
    return found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A held delete ends soon after the peer has closed the connection, not after seconds."""
    monkeypatch.setattr(inbox, "PING_S", 0.02)
    yield


def hold_to_account(sent_frames: list[tuple[int, bytes, int, int]], greeting: bytes, channel: Channel) -> None:
    with tempfile.TemporaryDirectory() as directory:
        site = Site(Path(directory) / "site")
        (site.place / "state").mkdir()
        before = site.picture()
        raw, seq = bytearray(), 1
        first = (int(FrameType.HELLO), site.greeting(greeting), 0, 0)
        for kind, payload, ident, wanted in [first, *sent_frames]:
            raw += HEADER.pack(len(payload), kind, 0, ident, seq if wanted < 0 else wanted) + payload
            if kind == FrameType.BATCH and len(payload) >= 4:
                seq += int.from_bytes(payload[:4], "little") % 100
        said, answered = trio.run(serve, site, bytes(raw), channel)
        assert site.picture() == before
        found = trio.run(frames_of, answered)
        if found and found[0][0] is FrameType.WELCOME:
            parse(found[0][1], Welcome)
        elif found:
            assert [kind for kind, _ in found] == [FrameType.REFUSE]
            parse(found[0][1], Fault)
        # Whatever it was, it has a name: nothing came as a surprise.
        assert Code.INTERNAL not in {code for _, code, _ in said}, said


@given(st.lists(frames(), max_size=8), greetings)
def test_every_frame_in_every_order(sent: list[tuple[int, bytes, int, int]], greeting: bytes) -> None:
    hold_to_account(sent, greeting, Channel.MIRROR)


def test_the_plain_greeting_is_welcome(tmp_path: Path) -> None:
    """Otherwise the tests above would only test a refused greeting."""
    site = Site(tmp_path / "site")
    (site.place / "state").mkdir()
    greeting = site.greeting(PLAIN)
    sent = HEADER.pack(len(greeting), FrameType.HELLO, 0, 0, 0) + greeting
    _, answered = trio.run(serve, site, sent, Channel.MIRROR)
    assert trio.run(frames_of, answered)[0][0] is FrameType.WELCOME


@given(mutated(GREETINGS, most=3), st.sampled_from([Channel.MIRROR, Channel.REPLICATION]))
def test_any_greeting(greeting: bytes, channel: Channel) -> None:
    hold_to_account([], greeting, channel)


@given(mutated([b"".join(HEADER.pack(len(g), 1, 0, 0, 0) + g for g in GREETINGS), *corpus("frames")]))
def test_any_bytes(sent: bytes) -> None:
    """Also at places where no frame begins or ends."""
    with tempfile.TemporaryDirectory() as directory:
        site = Site(Path(directory) / "site")
        (site.place / "state").mkdir()
        before = site.picture()
        trio.run(serve, site, site.greeting(sent), Channel.MIRROR)
        assert site.picture() == before


@pytest.mark.parametrize("raw", corpus("frames"))
async def test_frames_that_could_break_the_decoder(raw: bytes) -> None:
    near, far = memory_stream_pair()
    await near.send_all(raw)
    await near.send_eof()
    stream = FrameStream(far)
    with pytest.raises((LinkError, ProtocolError)):
        while await stream.receive() is not None:
            pass


@pytest.mark.parametrize("said", ["nothing", "half a greeting", "a greeting", "half a frame"])
async def test_a_silent_peer_is_disconnected(
    said: str, autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the node's own clock, which jumps here: a peer that sends nothing is not served for ever."""
    monkeypatch.setattr(inbox, "PING_S", 5.0)
    # The sink's threads are not seen by the clock: it must not jump while they work.
    autojump_clock.autojump_threshold = 0.05
    (tmp_path / "target").mkdir()
    greeting = filled(PLAIN, tmp_path / "target")
    whole = HEADER.pack(len(greeting), FrameType.HELLO, 0, 0, 0) + greeting
    sent = {"nothing": b"", "half a greeting": whole[:40], "a greeting": whole, "half a frame": whole + b"\1\0\0"}[said]
    service = BackupService(
        BackupRole(allow_roots=(os.fsencode(tmp_path),)),
        registry=REGISTRY,
        state_dir=tmp_path / "state",
        say=lambda rule, code, line: None,
    )
    near, far = memory_stream_pair()
    await near.send_all(sent)
    began = trio.current_time()
    await service.handle(far, Channel.MIRROR, "peer")
    assert 10 < trio.current_time() - began < 100


@pytest.mark.parametrize("seq", [1 << 62, 1 << 63, (1 << 64) - 1])
def test_a_seq_that_no_rule_reaches_is_refused(seq: int) -> None:
    """Also when the record fails, so that its seq would be reported."""
    missing = encode_records([Record(Kind.TRUNCATE, 0, b"missing", size=1)])
    hold_to_account([(int(FrameType.BATCH), missing, 0, seq)], PLAIN, Channel.MIRROR)


def test_a_held_delete_ends_when_its_peer_has_gone() -> None:
    root = encode_records([Record(Kind.REMOVE, 0, b"")])
    hold_to_account([(int(FrameType.BATCH), root, 0, -1)], PLAIN, Channel.MIRROR)
