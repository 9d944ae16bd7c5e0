"""The messages that are not bulk: greetings, acks and faults, as JSON.

They cross once per session or once per window, so clarity wins over bytes. Every field is checked on arrival by
cattrs; a peer that sends something else is cut off.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import attrs
import cattrs

from i2core.api import Failure, I2Error, LinkError, PeerRefused, Place, ProtocolError, StopRule
from i2core.api.codes import Code
from i2core.api.records import Buffer

PROTOCOL_VERSION = 2

FUTILE = (Code.DECRYPT, Code.DECOMPRESS, Code.VERSION_MISMATCH)
"""What goes wrong in the same way at the next attempt."""

T = TypeVar("T")
_converter = cattrs.Converter(forbid_extra_keys=True)


def _raw_path(_message: object, _field: object, path: str) -> None:
    path.encode("latin-1")


_raw_paths = attrs.validators.deep_iterable(_raw_path)


@attrs.frozen(kw_only=True)
class CodecName:
    """A codec both ends use, with its options that are not secret."""

    name: str
    options: dict[str, Any] = attrs.field(factory=dict)


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
    window_s: float
    least: int
    on: bool = True


@attrs.frozen(kw_only=True)
class Hello:
    """Opens a session on a channel. Paths are raw bytes as Latin-1 text."""

    protocol: int = PROTOCOL_VERSION
    version: str
    rule: str
    channel: str
    epoch: int
    targets: list[str] = attrs.field(validator=_raw_paths)
    codecs: list[CodecName]
    orphans: OrphanPolicy
    brake: BrakeLimits


@attrs.frozen(kw_only=True)
class Welcome:
    """The backup node takes the session."""

    version: str
    node: str
    applied_seq: int
    """No later record has been applied; the session's seqs start above it."""
    durable_seq: int
    exact: bool
    """False: the node broke down, and later records may be applied in part."""
    owns: bool
    """The sink can set owners."""


@attrs.frozen(kw_only=True)
class Fault:
    """Why a session is refused, or ends and must not simply be tried again."""

    code: int
    cause: str
    obj: str = ""
    next_step: str = ""
    retry: bool = False
    """True: try again later; False: a human must act first."""

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
    """The code of that number; one that only a newer peer knows reads as `INTERNAL`."""
    try:
        return Code(number)
    except ValueError:
        return Code.INTERNAL


@attrs.frozen(kw_only=True)
class FailedRecord:
    """A record that could not be applied."""

    seq: int
    root: int
    path: str = attrs.field(validator=_raw_path)
    code: int
    message: str
    repair: bool

    @staticmethod
    def of(failure: Failure) -> FailedRecord:
        """The failure as a message."""
        return FailedRecord(
            seq=failure.seq,
            root=failure.place.root,
            path=failure.place.path.decode("latin-1"),
            code=int(failure.code),
            message=failure.message,
            repair=failure.repair,
        )

    def failure(self) -> Failure:
        """The message as a failure."""
        place = Place(self.root, self.path.encode("latin-1"))
        return Failure(self.seq, place, code_of(self.code), self.message, self.repair)


@attrs.frozen(kw_only=True)
class Ack:
    """How far the sink is."""

    applied_seq: int
    durable_seq: int
    failures: list[FailedRecord] = attrs.field(factory=list)


ROOT_GONE = "the source root itself is gone"
"""The reason of a hold that is about the removal of a root."""


@attrs.frozen(kw_only=True)
class Hold:
    """A mass delete is held (`on`) or was released."""

    on: bool
    reason: str = ""


def dump(message: object) -> bytes:
    """A message as JSON bytes."""
    return json.dumps(_converter.unstructure(message), separators=(",", ":")).encode()


def protocol_of(payload: Buffer) -> int:
    """The protocol that a greeting names, whatever else is in it: so that a node of another version is told so.

    Raises:
        ProtocolError: it names none.
    """
    try:
        return int(json.loads(bytes(payload))["protocol"])
    except Exception as error:  # json raises many kinds; all mean the same here
        raise ProtocolError(f"malformed greeting: {type(error).__name__}") from error


def parse(payload: Buffer, kind: type[T]) -> T:
    """The message of that kind.

    Raises:
        ProtocolError: the payload is no such message.
    """
    try:
        return _converter.structure(json.loads(bytes(payload)), kind)
    except Exception as error:  # cattrs and json raise many kinds; all mean the same here
        raise ProtocolError(f"malformed {kind.__name__}: {type(error).__name__}") from error
