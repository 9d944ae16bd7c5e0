"""Numbers, names and counts that no correct node sends are protocol errors, on both sides."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
import trio
import trio.testing

from i2core.api import ProtocolError, StopRule
from i2core.drivers.chain import CodecChain
from i2core.tasks import background
from i2core.wire.batch import SeqCounter
from i2core.wire.frame import FrameStream, FrameType
from i2core.wire.free_text import TEXT_CHARS
from i2core.wire.listing import ChunkVerdicts, Verdict, decode_verdicts, encode_verdicts
from i2core.wire.messages import (
    Ack,
    BrakeLimits,
    CodecName,
    FailedRecord,
    Fault,
    Hello,
    Hold,
    OrphanPolicy,
    Welcome,
    dump,
    parse,
)
from i2core.wire.session import open_session

HELLO = Hello(
    version="0",
    rule="data1",
    channel="mirror",
    epoch=1,
    targets=["/t"],
    codecs=[],
    orphans=OrphanPolicy(),
    brake=BrakeLimits(share=0.5, window_s=60.0, least=1000),
)


def changed(message: object, **fields: Any) -> bytes:
    return json.dumps({**json.loads(dump(message)), **fields}).encode()


@pytest.mark.parametrize(
    "fields",
    [
        *({"rule": name} for name in ("", "R" * 101, "a\nb", "a\0b", "../../etc", "a/b", "-x", ".x", " x", "a\x1b[1m")),
        {"epoch": -1},
        {"epoch": 1 << 62},
        {"targets": []},
        {"targets": ["/t"] * 1001},
        {"targets": ["/" + "t" * 4096]},
        {"codecs": [{"name": "zstd", "options": {}}] * 9},
        {"codecs": [{"name": "z" * 101, "options": {}}]},
        {"codecs": [{"name": "zstd", "options": {str(number): 1 for number in range(101)}}]},
        {"brake": {"share": 0.5, "window_s": float("inf"), "least": 1, "on": True}},
        {"brake": {"share": 0.5, "window_s": -1, "least": 1, "on": True}},
        {"brake": {"share": 0.5, "window_s": 60, "least": -5, "on": True}},
    ],
)
def test_a_greeting_that_no_config_could_make_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        parse(changed(HELLO, **fields), Hello)


@pytest.mark.parametrize("name", ["data1", "数据", "web 1", "a" * 100, "replicate-0123456789ab"])
def test_names_that_a_config_may_hold_are_taken(name: str) -> None:
    assert parse(changed(HELLO, rule=name), Hello).rule == name


@pytest.mark.parametrize("codec", [CodecName(name="zstd", options={"level": "low"})])
def test_codecs_are_taken(codec: CodecName) -> None:
    assert parse(changed(HELLO, codecs=[{"name": codec.name, "options": codec.options}]), Hello).codecs == [codec]


@pytest.mark.parametrize("name", [b"", b".", b"..", b"../there", b"a/b", b"/etc", b"a\0b"])
def test_an_orphan_is_one_name_in_its_directory(name: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_verdicts(encode_verdicts([ChunkVerdicts(Verdict.SAME, b"", {}, [name])]))


WELCOME = Welcome(version="0", node="bak", applied_seq=7, durable_seq=5, exact=True, owns=True)


async def meet(welcome: bytes, *frames: tuple[FrameType, bytes]) -> None:
    """A session with a backup node that sends these messages."""
    ours, theirs = trio.testing.memory_stream_pair()

    async def backup() -> None:
        other = FrameStream(theirs)
        await other.receive()
        await other.send(FrameType.WELCOME, welcome)
        for kind, payload in frames:
            await other.send(kind, payload)
        await trio.sleep_forever()

    async with background() as nursery:
        nursery.start_soon(backup)
        async with open_session(
            ours, HELLO, CodecChain(()), SeqCounter(), on_ack=lambda _: None, on_hold=lambda _: None
        ):
            await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize(
    "fields",
    [
        {"applied_seq": -1, "durable_seq": -1},
        {"applied_seq": 1 << 62},
        {"applied_seq": 1 << 70},
        {"durable_seq": 8},
        {"durable_seq": -1},
        {"applied_seq": "many"},
        {"applied_seq": float("nan")},
    ],
)
async def test_a_welcome_with_numbers_out_of_range(fields: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        await meet(changed(WELCOME, **fields))


FAILED = {"seq": 3, "root": 0, "path": "a", "code": 3555, "message": "no", "repair": True}


@pytest.mark.parametrize(
    "fields",
    [
        {"applied_seq": 8},
        {"applied_seq": 1 << 62},
        {"applied_seq": 6, "durable_seq": 7},
        {"applied_seq": -1, "durable_seq": -2},
        {"failures": [FAILED | {"root": 1}]},
        {"failures": [FAILED | {"root": -1}]},
        {"failures": [FAILED | {"seq": 8}]},
        {"failures": [FAILED | {"seq": -8}]},
        {"failures": [FAILED | {"path": "../there"}]},
        {"failures": [FAILED | {"path": "/etc"}]},
        {"failures": [FAILED | {"path": "a\0"}]},
        {"failures": [FAILED | {"path": "a" * 65_536}]},
    ],
)
async def test_an_ack_of_what_was_never_sent(fields: dict[str, Any]) -> None:
    ack = changed(Ack(applied_seq=7, durable_seq=5), **fields)
    with pytest.raises(ProtocolError):
        await meet(dump(WELCOME), (FrameType.ACK, ack))


async def test_an_honest_ack_is_taken() -> None:
    ack = changed(Ack(applied_seq=7, durable_seq=5), failures=[FAILED])
    await meet(dump(WELCOME), (FrameType.ACK, ack))


HELD, RELEASED = ((FrameType.HOLD, dump(Hold(on=on, reason="too many"))) for on in (True, False))
DONE = (FrameType.DONE, b"")


@pytest.mark.parametrize("holds", [[HELD], [RELEASED], [HELD, RELEASED]])
async def test_nothing_can_be_held_that_was_not_sent(holds: list[tuple[FrameType, bytes]]) -> None:
    with pytest.raises(ProtocolError, match=r"held|holds"):
        await meet(dump(WELCOME), *holds)


async def meet_a_question(*frames: tuple[FrameType, bytes]) -> list[bool]:
    """The holds of a session whose first question the backup node answers with these messages."""
    ours, theirs = trio.testing.memory_stream_pair()
    told: list[bool] = []

    async def backup() -> None:
        other = FrameStream(theirs)
        await other.receive()
        await other.send(FrameType.WELCOME, dump(WELCOME))
        asked = await other.receive()
        assert asked is not None
        for kind, payload in frames:
            await other.send(kind, payload, ident=asked.ident if kind is FrameType.DONE else 0)
        await trio.sleep_forever()

    async with background() as nursery:
        nursery.start_soon(backup)
        async with open_session(
            ours, HELLO, CodecChain(()), SeqCounter(), on_ack=lambda _: None, on_hold=lambda hold: told.append(hold.on)
        ) as session:
            await session.ask(FrameType.ORPHANS, b"")
            await trio.testing.wait_all_tasks_blocked()
    return told


async def test_a_question_is_held_until_its_release() -> None:
    assert await meet_a_question(HELD, RELEASED, HELD, RELEASED, DONE) == [True, False, True, False]


@pytest.mark.parametrize("frames", [[HELD, HELD], [RELEASED], [HELD, DONE], [HELD, RELEASED, DONE, HELD]])
async def test_holds_that_no_brake_makes(frames: list[tuple[FrameType, bytes]]) -> None:
    with pytest.raises(ProtocolError, match=r"hold|release"):
        await meet_a_question(*frames)


LONG = "A" * 7_000_000


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (Fault, {"code": 3571, "cause": LONG, "obj": LONG, "next_step": LONG, "retry": False}),
        (Hold, {"on": True, "reason": LONG}),
        (FailedRecord, FAILED | {"message": LONG}),
        (Welcome, json.loads(dump(WELCOME)) | {"version": LONG, "node": LONG}),
        (Hello, json.loads(dump(HELLO)) | {"version": LONG}),
    ],
)
def test_texts_of_the_other_node_are_shortened(kind: type[Any], document: dict[str, Any]) -> None:
    taken = parse(json.dumps(document).encode(), kind)
    texts = {key: getattr(taken, key) for key, value in document.items() if value is LONG}
    assert texts == dict.fromkeys(texts, "A" * (TEXT_CHARS - 1) + "…")


def test_texts_are_shortened_before_they_are_sent() -> None:
    sent = Fault.of(StopRule(LONG, obj="\\xff" * 4096, next_step="x"))
    assert [len(text) for text in (sent.cause, sent.obj, sent.next_step)] == [TEXT_CHARS, 4 * 4096, 1]
    assert parse(dump(sent), Fault) == sent


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_an_answer_that_is_cut_short(cut: int) -> None:
    whole = encode_verdicts([ChunkVerdicts(Verdict.META, b"\1\2", {1: bytes(16)}, [b"name"])])
    with pytest.raises(ProtocolError):
        decode_verdicts(whole[:-cut])
    with pytest.raises(ProtocolError):
        decode_verdicts(struct.pack("<I", 2**32 - 1))
