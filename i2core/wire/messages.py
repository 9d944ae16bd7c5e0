"""The messages besides bulk data: greetings, acks and faults, as JSON.

They are sent once per session or once per window, so readability matters more than size. cattrs checks every field on
arrival; a peer that sends anything else is disconnected. Texts for people are shortened where a message is made, on
both nodes: by the sender, and by a receiver whose peer did not.
"""

from __future__ import annotations

import datetime
import json
from typing import Any, TypeVar

import attrs
import cattrs
from cattrs.gen import make_dict_unstructure_fn, override

from i2core.api import Failure, I2Error, LinkError, PeerRefused, Place, ProtocolError, StopRule
from i2core.api.codes import Code
from i2core.api.records import Buffer, safe_path
from i2core.config.model import (
    DAILY,
    DETAILED_DAYS,
    MONTHLY,
    SNAPSHOT_EVERY_S,
    Brake,
    CdpRetention,
    SnapshotPlan,
    WhenFull,
)
from i2core.config.values import Wrong, name
from i2core.posix.path_text import as_path, as_text
from i2core.wire.free_text import shortened

PROTOCOL_VERSION = 2
FLAGS_PROTOCOL = 3
"""The version of a session whose rule carries inode flags: a backup node that does not know them refuses it with a
clear message. Every session uses the lowest version that it needs, so that nodes of different releases work
together."""
CDP_PROTOCOL = 4
"""The version of a session whose rule wants a history, for the same reason; it may carry inode flags as well."""
SNAPSHOT_PROTOCOL = 5
"""The version of a session whose rule plans snapshots, likewise; it may have all of the above."""
PROTOCOLS = (PROTOCOL_VERSION, FLAGS_PROTOCOL, CDP_PROTOCOL, SNAPSHOT_PROTOCOL)

FUTILE = (Code.DECRYPT, Code.DECOMPRESS, Code.VERSION_MISMATCH)
"""Errors that would occur again at the next attempt."""

T = TypeVar("T")
_converter = cattrs.Converter(forbid_extra_keys=True)


_converter.register_unstructure_hook_factory(
    lambda kind: kind is Welcome,
    lambda kind: make_dict_unstructure_fn(kind, _converter, anew=override(omit_if_default=True)),
)
_converter.register_unstructure_hook_factory(
    lambda kind: kind is Hello,
    lambda kind: make_dict_unstructure_fn(
        kind,
        _converter,
        inode_flags=override(omit_if_default=True),
        cdp=override(omit_if_default=True),
        snapshot=override(omit_if_default=True),
        zone=override(omit_if_default=True),
        sources=override(omit_if_default=True),
    ),
)


def _raw_path(_message: object, _field: object, path: str) -> None:
    as_path(path)


_FAILED_BYTES = 160
"""Bytes of a failure's JSON without its texts."""
TARGETS = 1000
"""Most targets of one rule."""
CODECS = 8
"""Most codecs of one rule."""
TARGET_BYTES = 4096
PATH_BYTES = 65_535
"""Longest path in a root: records have two bytes for its length."""
NAME_CHARS = 100
MOST_SEQ = 1 << 62
"""Seqs and counters stay below this, so that they fit every field that stores them, with room to grow."""

_span = attrs.validators.and_(attrs.validators.gt(0.0), attrs.validators.lt(float("inf")))
_seq = attrs.validators.and_(attrs.validators.ge(0), attrs.validators.lt(MOST_SEQ))


def _targets(_message: object, _field: object, paths: list[str]) -> None:
    if not 0 < len(paths) <= TARGETS or any(len(as_path(path)) > TARGET_BYTES for path in paths):
        raise ValueError("too many targets, no target, or a path that is too long")


def _sources(message: Any, _field: object, paths: list[str]) -> None:
    if paths and (len(paths) != len(message.targets) or any(len(as_path(path)) > TARGET_BYTES for path in paths)):
        raise ValueError("not one source for each target, or a path that is too long")


def _rule_name(_message: object, _field: object, text: str) -> None:
    try:
        name(text)
    except Wrong as wrong:
        raise ValueError(wrong.message.en) from None


def _relative_path(_message: object, _field: object, path: str) -> None:
    if len(path) > PATH_BYTES or not safe_path(as_path(path)):
        raise ValueError("a path that is too long, or leaves its root")


@attrs.frozen(kw_only=True)
class CodecName:
    """A codec that both ends use, with its options that are not secret."""

    name: str = attrs.field(validator=attrs.validators.max_len(NAME_CHARS))
    options: dict[str, Any] = attrs.field(factory=dict, validator=attrs.validators.max_len(NAME_CHARS))


@attrs.frozen(kw_only=True)
class OrphanPolicy:
    """The rule's orphan options; `to` is a path as Latin-1 text (bytes in JSON)."""

    action: str = "keep"
    to: str | None = attrs.field(default=None, validator=attrs.validators.optional(_raw_path))
    archive: bool = False


@attrs.frozen(kw_only=True)
class BrakeLimits:
    """The rule's mass-delete brake."""

    share: float = attrs.field(validator=[attrs.validators.gt(0), attrs.validators.le(1)])
    window_s: float = attrs.field(validator=_span)
    least: int = attrs.field(validator=[attrs.validators.ge(1), attrs.validators.lt(MOST_SEQ)])
    on: bool = True


def limits_of(brake: Brake) -> BrakeLimits:
    """The brake of a config as a message."""
    return BrakeLimits(share=brake.share, window_s=brake.window_s, least=brake.least, on=brake.share < 1)


def _within(limits: tuple[int, int]) -> Any:
    least, most = limits
    return attrs.field(validator=[attrs.validators.ge(least), attrs.validators.le(most)])


@attrs.frozen(kw_only=True)
class CdpPolicy:
    """The history that a rule wants: see `CdpRetention`."""

    detailed_days: int = _within(DETAILED_DAYS)
    daily: int = _within(DAILY)
    monthly: int = _within(MONTHLY)


def policy_of(cdp: CdpRetention) -> CdpPolicy:
    """The retention of a config as a message."""
    return CdpPolicy(detailed_days=cdp.detailed_days, daily=cdp.daily, monthly=cdp.monthly)


_interval = attrs.validators.optional([attrs.validators.ge(SNAPSHOT_EVERY_S), attrs.validators.lt(float("inf"))])


def _local_time(_message: object, _field: object, text: str | None) -> None:
    if text is not None and datetime.datetime.fromisoformat(text).tzinfo is not None:
        raise ValueError("a local time with a zone")


@attrs.frozen(kw_only=True)
class SnapshotWish:
    """The snapshots that a rule wants: see `SnapshotPlan`."""

    store: str = attrs.field(validator=_rule_name)
    every_s: float | None = attrs.field(validator=_interval)
    start: str | None = attrs.field(validator=_local_time)
    keep: int = attrs.field(validator=[attrs.validators.ge(1), attrs.validators.le(64)])
    rotate: bool

    @classmethod
    def of(cls, plan: SnapshotPlan) -> SnapshotWish:
        """The plan of a config as a message."""
        start = None if plan.start is None else plan.start.isoformat()
        rotate = plan.when_full is WhenFull.ROTATE
        return cls(store=plan.store, every_s=plan.every_s, start=start, keep=plan.keep, rotate=rotate)

    def plan(self) -> SnapshotPlan:
        """The plan again."""
        start = None if self.start is None else datetime.datetime.fromisoformat(self.start)
        when_full = WhenFull.ROTATE if self.rotate else WhenFull.STOP
        return SnapshotPlan(store=self.store, every_s=self.every_s, start=start, keep=self.keep, when_full=when_full)


@attrs.frozen(kw_only=True)
class Hello:
    """Opens a session on a channel. Paths are raw bytes as Latin-1 text."""

    protocol: int = PROTOCOL_VERSION
    version: str = attrs.field(converter=shortened)
    rule: str = attrs.field(validator=_rule_name)
    channel: str
    epoch: int = attrs.field(validator=_seq)
    targets: list[str] = attrs.field(validator=_targets)
    codecs: list[CodecName] = attrs.field(validator=attrs.validators.max_len(CODECS))
    orphans: OrphanPolicy
    brake: BrakeLimits
    inode_flags: bool = False
    """The rule carries inode flags and project ids. Omitted when false, for a peer that does not know the field."""
    cdp: CdpPolicy | None = None
    """The rule wants a history of its replica; None: it does not, and the field is omitted."""
    snapshot: SnapshotWish | None = None
    """The snapshots that the rule wants; None: those that somebody takes by hand, and the field is omitted."""
    zone: str = attrs.field(default="", validator=attrs.validators.max_len(NAME_CHARS))
    """The work node's time zone, in which people read the moments of that history, and its schedules are meant. Omitted
    without history and schedule."""
    sources: list[str] = attrs.field(factory=list, validator=_sources)
    """The directories on the work node, one for each target, by which people name what they want back. Omitted
    without a history."""


@attrs.frozen(kw_only=True)
class Welcome:
    """The backup node accepts the session."""

    version: str = attrs.field(converter=shortened)
    node: str = attrs.field(converter=shortened)
    applied_seq: int = attrs.field(validator=_seq)
    """No later record has been applied; the session's seqs start above it."""
    durable_seq: int = attrs.field(validator=_seq)
    exact: bool
    """False: the node crashed, and later records may be partly applied."""
    owns: bool
    """The sink can set owners."""
    anew: bool = False
    """The node does not know the content of the replica, because it is another directory than before or the node lost
    its state: compare everything. Omitted when false, for a peer that does not know the field."""


@attrs.frozen(kw_only=True)
class Fault:
    """The reason why a session is refused, or ends and must not simply be retried."""

    code: int
    cause: str = attrs.field(converter=shortened)
    obj: str = attrs.field(default="", converter=shortened)
    next_step: str = attrs.field(default="", converter=shortened)
    retry: bool = False
    """True: retry later; False: a person must act first."""

    @staticmethod
    def of(error: I2Error) -> Fault:
        """The error as a message."""
        broken = isinstance(error, LinkError | ProtocolError) and not isinstance(error, PeerRefused)
        retry = broken and error.code not in FUTILE
        return Fault(code=int(error.code), cause=error.cause, obj=error.obj, next_step=error.next_step, retry=retry)

    def error(self) -> I2Error:
        """The message as the error to raise here."""
        kind = LinkError if self.retry else StopRule
        return kind(self.cause, code=code_of(self.code), obj=self.obj, next_step=self.next_step)


def code_of(number: int) -> Code:
    """The code of that number; `INTERNAL` for a number that only a newer peer knows."""
    try:
        return Code(number)
    except ValueError:
        return Code.INTERNAL


@attrs.frozen(kw_only=True)
class FailedRecord:
    """A record that could not be applied."""

    seq: int = attrs.field(validator=_seq)
    root: int = attrs.field(validator=[attrs.validators.ge(0), attrs.validators.lt(TARGETS)])
    path: str = attrs.field(validator=_relative_path)
    code: int
    message: str = attrs.field(converter=shortened)
    repair: bool

    @staticmethod
    def of(failure: Failure) -> FailedRecord:
        """The failure as a message."""
        return FailedRecord(
            seq=failure.seq,
            root=failure.place.root,
            path=as_text(failure.place.path),
            code=int(failure.code),
            message=failure.message,
            repair=failure.repair,
        )

    def most_bytes(self) -> int:
        """The longest possible JSON: a character takes six bytes at most (``\u00e4``), or twelve beyond the plane."""
        return _FAILED_BYTES + 6 * len(self.path) + 12 * len(self.message)

    def failure(self) -> Failure:
        """The message as a failure."""
        place = Place(self.root, as_path(self.path))
        return Failure(self.seq, place, code_of(self.code), self.message, self.repair)


@attrs.frozen(kw_only=True)
class Ack:
    """The progress of the sink."""

    applied_seq: int = attrs.field(validator=_seq)
    durable_seq: int = attrs.field(validator=_seq)
    failures: list[FailedRecord] = attrs.field(factory=list)


ROOT_GONE = "the source root itself is gone"
"""The reason of a hold because a root was removed."""


@attrs.frozen(kw_only=True)
class Hold:
    """A mass delete is held (`on`) or was released."""

    on: bool
    reason: str = attrs.field(default="", converter=shortened)


def dump(message: object) -> bytes:
    """A message as JSON bytes."""
    return json.dumps(_converter.unstructure(message), separators=(",", ":")).encode()


def protocol_of(payload: Buffer) -> int:
    """The protocol version in a greeting. Other fields are not checked, so that a node of another version gets a clear
    error.

    Raises:
        ProtocolError: there is none.
    """
    try:
        return int(json.loads(bytes(payload))["protocol"])
    except Exception as error:  # json raises many kinds; all mean a malformed message
        raise ProtocolError(f"malformed greeting: {type(error).__name__}") from error


def parse(payload: Buffer, kind: type[T]) -> T:
    """The message of that kind.

    Raises:
        ProtocolError: the payload is not such a message.
    """
    try:
        return _converter.structure(json.loads(bytes(payload)), kind)
    except Exception as error:  # cattrs and json raise many kinds; all mean a malformed message
        raise ProtocolError(f"malformed {kind.__name__}: {type(error).__name__}") from error
