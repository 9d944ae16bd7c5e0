"""Messages: each is decoded as it was encoded, and any other bytes are one kind of error."""

from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.api import Code, Failure, LinkError, PeerRefused, Place, ProtocolError, StopRule, UsageError
from i2core.api.records import safe_path
from i2core.wire.messages import (
    PROTOCOL_VERSION,
    Ack,
    BrakeLimits,
    CdpPolicy,
    CodecName,
    FailedRecord,
    Fault,
    Hello,
    Hold,
    OrphanPolicy,
    SnapshotWish,
    Welcome,
    code_of,
    dump,
    parse,
    protocol_of,
)

HELLO = Hello(
    version="0.1.0",
    rule="data1",
    channel="mirror",
    epoch=3,
    targets=["/backup/\xff\xfe", "/b\n"],
    codecs=[CodecName(name="zstd", options={"level": "low"}), CodecName(name="aesgcm")],
    orphans=OrphanPolicy(action="move", to="/backup/aside", archive=True),
    brake=BrakeLimits(share=0.5, window_s=60.0, least=1000),
)
SNAPSHOT = SnapshotWish(store="auto", every_s=300.0, start="2026-01-01T00:30:00", keep=24, rotate=True)
CDP = CdpPolicy(detailed_days=7, daily=30, monthly=12)
FAILED = FailedRecord(seq=9, root=1, path="d\xe4ta\n", code=3563, message="why", repair=True)
MESSAGES = [
    HELLO,
    Welcome(version="0.1.0", node="bak", applied_seq=7, durable_seq=5, exact=True, owns=True),
    Ack(applied_seq=9, durable_seq=8, failures=[FAILED]),
    Fault(code=3588, cause="another node owns the replica", obj="data1", next_step="ask it"),
    Hold(on=True, reason="1100 of 1200 files would be removed"),
]
KINDS = [type(message) for message in MESSAGES]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_messages_round_trip(message: object) -> None:
    assert parse(dump(message), type(message)) == message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_anything_else_is_a_protocol_error(kind: type, data: st.DataObject) -> None:
    """Also if single fields have another type: the message is either decoded with the right type, or refused."""
    sample = json.loads(dump(MESSAGES[KINDS.index(kind)]))
    field = data.draw(st.sampled_from([*sample, "more"]))
    sample[field] = data.draw(json_values)
    raw = data.draw(st.sampled_from([json.dumps(sample).encode()]) | st.binary(max_size=50))
    try:
        message: object = parse(raw, kind)
    except ProtocolError:
        return
    assert attrs.has(type(message))
    assert parse(dump(message), kind) == message or "nan" in dump(message).decode().lower()


@pytest.mark.parametrize("kind", KINDS)
def test_fields_may_neither_be_missing_nor_added(kind: type) -> None:
    sample = json.loads(dump(MESSAGES[KINDS.index(kind)]))
    with pytest.raises(ProtocolError):
        parse(json.dumps(sample | {"more": 1}).encode(), kind)
    required = [field.name for field in attrs.fields(kind) if field.default is attrs.NOTHING]
    for name in required:
        with pytest.raises(ProtocolError):
            parse(json.dumps({key: value for key, value in sample.items() if key != name}).encode(), kind)


@pytest.mark.parametrize("raw", [b"[" * 100_000, b"1e999", b'{"a":' * 50_000, b"\xff\xfe", b"", b"9" * 5000])
def test_hostile_json(raw: bytes) -> None:
    for kind in KINDS:
        with pytest.raises(ProtocolError):
            parse(raw, kind)
    with pytest.raises(ProtocolError):
        protocol_of(raw)


@pytest.mark.parametrize("share", ["0", "-1", "NaN", "1.5", "Infinity"])
def test_a_brake_that_would_never_hold_is_refused(share: str) -> None:
    raw = dump(HELLO).replace(b'"share":0.5', b'"share":' + share.encode())
    with pytest.raises(ProtocolError):
        parse(raw, Hello)


def test_paths_that_are_no_bytes_are_refused() -> None:
    for old, new in ((b'"targets":["', b'"targets":["\\u540d'), (b'"to":"', b'"to":"\\u540d')):
        with pytest.raises(ProtocolError):
            parse(dump(HELLO).replace(old, new), Hello)
    with pytest.raises(ProtocolError):
        parse(dump(MESSAGES[2]).replace(b'"path":"', b'"path":"\\u540d'), Ack)


def test_a_history_that_is_wanted_is_said_and_otherwise_not_mentioned() -> None:
    """A peer that does not know the field refuses a greeting with it."""
    assert b"cdp" not in dump(HELLO)
    wanted = attrs.evolve(HELLO, cdp=CDP)
    assert parse(dump(wanted), Hello) == wanted


@pytest.mark.parametrize("cdp", ["7", "[]", "{}", '"off"', '{"detailed_days":7}'])
def test_a_history_of_any_other_shape_is_refused(cdp: str) -> None:
    with pytest.raises(ProtocolError):
        parse(dump(HELLO)[:-1] + b',"cdp":%s}' % cdp.encode(), Hello)


@pytest.mark.parametrize(
    ("field", "limits"), [("detailed_days", (1, 3650)), ("daily", (0, 3650)), ("monthly", (0, 1200))]
)
def test_a_history_of_more_than_a_config_may_have_is_refused(field: str, limits: tuple[int, int]) -> None:
    least, most = limits
    for value in limits:
        sample = json.loads(dump(attrs.evolve(CDP, **{field: value})))
        assert getattr(parse(json.dumps(sample).encode(), CdpPolicy), field) == value
    for value in (least - 1, most + 1, 1 << 70):
        sample = json.loads(dump(CDP)) | {field: value}
        with pytest.raises(ProtocolError):
            parse(json.dumps(sample).encode(), CdpPolicy)


def test_the_protocol_of_any_greeting() -> None:
    assert protocol_of(dump(HELLO)) == PROTOCOL_VERSION
    assert protocol_of(b'{"protocol": 7, "of_the_future": []}') == 7


@given(
    st.integers(0, 1 << 60),
    st.binary(max_size=50).filter(safe_path),
    st.sampled_from(Code),
    st.text(max_size=20),
    st.booleans(),
)
def test_failures_round_trip(seq: int, path: bytes, code: Code, message: str, repair: bool) -> None:
    failure = Failure(seq, Place(3, path), code, message, repair)
    ack = Ack(applied_seq=1, durable_seq=1, failures=[FailedRecord.of(failure)])
    assert parse(dump(ack), Ack).failures[0].failure() == failure


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (LinkError("gone"), LinkError),
        (ProtocolError("gap", code=Code.SEQUENCE), LinkError),
        (ProtocolError("damaged"), LinkError),
        (ProtocolError("key", code=Code.DECRYPT), StopRule),
        (ProtocolError("damaged", code=Code.DECOMPRESS), StopRule),
        (PeerRefused("who"), StopRule),
        (StopRule("full", code=Code.REPLICA_FULL), StopRule),
        (UsageError("path", code=Code.ILLEGAL_PATH), StopRule),
    ],
)
def test_a_fault_says_whether_to_try_again(error: LinkError | StopRule, raised: type[Exception]) -> None:
    error.obj, error.next_step = "data1", "do this"
    told = parse(dump(Fault.of(error)), Fault).error()
    assert type(told) is raised
    assert (told.code, told.cause, told.obj, told.next_step) == (error.code, error.cause, "data1", "do this")


def test_codes_of_the_future_read_as_internal() -> None:
    assert code_of(3588) is Code.LOCKED
    assert code_of(99_999) is Code.INTERNAL


def test_planned_snapshots_are_left_out_where_there_are_none() -> None:
    assert b"snapshot" not in dump(HELLO)
    wanted = attrs.evolve(HELLO, snapshot=SNAPSHOT)
    assert parse(dump(wanted), Hello) == wanted
    assert SnapshotWish.of(SNAPSHOT.plan()) == SNAPSHOT
    by_hand = attrs.evolve(SNAPSHOT, every_s=None, start=None, rotate=False)
    assert SnapshotWish.of(by_hand.plan()) == by_hand


@pytest.mark.parametrize(
    "wrong",
    [
        {"every_s": 299.0},
        {"every_s": float("inf")},
        {"start": "tomorrow"},
        {"start": "2026-01-01T00:30:00+08:00"},
        {"keep": 0},
        {"keep": 65},
        {"store": "../x"},
        {"store": ""},
    ],
)
def test_a_plan_of_snapshots_is_checked(wrong: dict[str, object]) -> None:
    fields = json.loads(dump(attrs.evolve(HELLO, snapshot=SNAPSHOT)))
    fields["snapshot"] |= wrong
    with pytest.raises(ProtocolError):
        parse(json.dumps(fields).encode(), Hello)
