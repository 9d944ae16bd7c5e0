"""The messages of a recovery between two nodes. docs/wire-format.md is the reference.

    work node                                  backup node
    RECOVER (what it wants) ────────────────▶
    WAIT (for what the backup node wants) ──▶ … ORDER (where to)
                                        then, in any order:
                          ◀──── CALL            what the destination is asked: ANSWER, or FAULT with its number
                          ◀──── PROGRESS
    PING ────▶            ◀──── PONG
                          ◀──── OUTCOME or FAULT, the last message

    STREAM (ticket) ──────▶ another connection, which a CALL has asked for: a session follows on it, and the backup
                            node is the one that begins it

The work node connects, and answers; the backup node asks, and sends. All messages are JSON; paths are raw bytes as
Latin-1 text.
"""

from __future__ import annotations

from typing import Any

import attrs

from i2core.api import Entry, I2Error, LinkError, PeerRefused, ProtocolError, StopRule, UsageError
from i2core.api.records import safe_path
from i2core.config.words import Bilingual, bilingual
from i2core.posix.path_text import as_path, as_text
from i2core.wire.free_text import shortened
from i2core.wire.messages import MOST_SEQ, NAME_CHARS, code_of

RECOVERY_PROTOCOL = 1
ORDER_BYTES = 1 << 20
"""Longest message other than an ANSWER: JSON takes far more memory than it takes on the wire."""
ANSWER_BYTES = 4 << 20
PATHS = 10_000
"""Most chosen paths of one recovery."""
PATH_CHARS = 65_535
TICKET_CHARS = 64
_MOST_U64, _MOST_I64 = (1 << 64) - 1, (1 << 63) - 1
_FAR_NS = 1 << 79
"""Times have an era, so they take more than 64 bits."""

_optional = attrs.validators.optional
_short: Any = attrs.validators.max_len(NAME_CHARS)
_seq: Any = attrs.validators.and_(attrs.validators.ge(0), attrs.validators.lt(MOST_SEQ))


def _paths(_message: object, _field: object, paths: list[str]) -> None:
    if len(paths) > PATHS or any(len(path) > PATH_CHARS or b"\0" in as_path(path) for path in paths):
        raise ValueError("too many paths, or one that is too long")


def _path(_message: object, _field: object, path: str) -> None:
    _paths(_message, _field, [path])


def _beneath(_message: object, _field: object, paths: list[str]) -> None:
    _paths(_message, _field, paths)
    if not all(safe_path(as_path(path)) for path in paths if path):
        raise ValueError("a path that leaves the destination")


@attrs.frozen(kw_only=True)
class Recover:
    """What a work node wants: a past state of a rule that the backup node receives."""

    protocol: int = RECOVERY_PROTOCOL
    rule: str = attrs.field(validator=_short)
    peer: str = attrs.field(default="", validator=_short)
    """The work node that the rule is received from; empty: the only one that has a rule of that name."""
    to: str = attrs.field(validator=_path)
    """The destination on this node: for the record of recoveries."""
    root: str = attrs.field(default="", validator=_path)
    """Only this one of the rule's directories, which comes to the destination itself; empty: all."""
    paths: list[str] = attrs.field(factory=list, validator=_paths)
    at: str | None = attrs.field(default=None, validator=_optional(_short))
    at_seq: int | None = attrs.field(default=None, validator=_optional(_seq))
    nearest: str | None = attrs.field(default=None, validator=_optional(_short))
    snapshot: int | None = attrs.field(default=None, validator=_optional(_seq))
    extra: str = attrs.field(default="keep", validator=attrs.validators.in_(["keep", "aside", "delete"]))
    strict: bool = False
    prove: bool = True
    dry_run: bool = False


@attrs.frozen(kw_only=True)
class Wait:
    """A work node in which the backup node may recover waits for its orders."""

    protocol: int = RECOVERY_PROTOCOL


@attrs.frozen(kw_only=True)
class Stream:
    """A connection for one session of a recovery."""

    ticket: str = attrs.field(validator=attrs.validators.max_len(TICKET_CHARS))


@attrs.frozen(kw_only=True)
class ToNode:
    """Where a backup node wants to recover, and what becomes of extra files there."""

    to: str = attrs.field(validator=_path)
    rule: str = attrs.field(validator=_short)
    peer: str = attrs.field(validator=_short)
    extra: str = attrs.field(default="keep", validator=attrs.validators.in_(["keep", "aside", "delete"]))
    dry_run: bool = False


@attrs.frozen(kw_only=True)
class Coming:
    """What comes to the destination: `i2core.recovery.end.Landing`."""

    rule: str = attrs.field(validator=_short)
    places: list[str] = attrs.field(validator=_beneath)
    shells: list[str] = attrs.field(validator=_beneath)
    extra: str = attrs.field(validator=attrs.validators.in_(["keep", "aside", "delete"]))
    flags: bool


@attrs.frozen(kw_only=True)
class Call:
    """What the destination is asked. Each call uses the fields that it needs."""

    what: str = attrs.field(validator=_short)
    coming: Coming | None = None
    path: str = attrs.field(default="", validator=_path)
    names: list[str] = attrs.field(factory=list, validator=_paths)
    number: int = attrs.field(default=0, validator=_seq)
    ticket: str = attrs.field(default="", validator=attrs.validators.max_len(TICKET_CHARS))


@attrs.frozen(kw_only=True)
class Problem:
    """An error that ends a recovery, or the answer to a call, with both languages and the exit code of the command."""

    kind: str = attrs.field(validator=attrs.validators.in_(["usage", "stop", "link", "refused"]))
    code: int
    cause: str = attrs.field(converter=shortened)
    cause_zh: str = attrs.field(converter=shortened)
    obj: str = attrs.field(default="", converter=shortened)
    step: str = attrs.field(default="", converter=shortened)
    step_zh: str = attrs.field(default="", converter=shortened)

    @staticmethod
    def of(error: I2Error) -> Problem:
        """The error as a message."""
        kind = next(name for name, kinds in _KINDS if isinstance(error, kinds))
        cause, cause_zh = _both(error.cause)
        step, step_zh = _both(error.next_step)
        return Problem(
            kind=kind, code=int(error.code), cause=cause, cause_zh=cause_zh, obj=error.obj, step=step, step_zh=step_zh
        )

    def error(self) -> I2Error:
        """The message as the error to raise here."""
        kind: type[I2Error] = {"usage": UsageError, "stop": StopRule, "link": LinkError, "refused": PeerRefused}[
            self.kind
        ]
        step = bilingual(self.step, self.step_zh) if self.step else ""
        return kind(bilingual(self.cause, self.cause_zh), code=code_of(self.code), obj=self.obj, next_step=step)


_KINDS: tuple[tuple[str, type[I2Error] | tuple[type[I2Error], ...]], ...] = (
    ("usage", UsageError),
    ("refused", PeerRefused),
    ("link", (LinkError, ProtocolError)),
    ("stop", I2Error),
)
"""The first one that fits."""


def _both(text: str) -> tuple[str, str]:
    return (text.en, text.zh) if isinstance(text, Bilingual) else (text, text)


def entry_fields(entry: Entry | None) -> list[Any] | None:
    """An entry for JSON."""
    if entry is None:
        return None
    return list(entry._replace(name=as_text(entry.name), target=as_text(entry.target)))  # type: ignore[arg-type]


def entry_of(fields: Any) -> Entry | None:
    """The entry again.

    Raises:
        ProtocolError: it is none.
    """
    if fields is None:
        return None
    try:
        entry = Entry(*fields)
        entry = entry._replace(name=as_path(fields[0]), target=as_path(entry.target))  # type: ignore[arg-type]
        numbers = [value for key, value in zip(Entry._fields, entry, strict=True) if key not in ("name", "target")]
        if any(type(number) is not int for number in numbers) or b"/" in entry.name or b"\0" in entry.name:
            raise ValueError("no entry")  # noqa: TRY301 (reported with the others, below)
        times = (entry.mtime_ns, entry.ctime_ns)
        others = (entry.mode, entry.uid, entry.gid, entry.nlink, entry.ino, entry.dev, entry.rdev, entry.xattrs)
        is_sound = all(abs(time) < _FAR_NS for time in times) and all(0 <= one <= _MOST_U64 for one in others)
        if not is_sound or not all(0 <= one <= _MOST_I64 for one in (entry.size, entry.blocks)):
            raise ValueError("out of range")  # noqa: TRY301
        if not -1 <= entry.flags <= _MOST_U64:
            raise ValueError("no flags")  # noqa: TRY301
    except (ValueError, TypeError, AttributeError, IndexError, LookupError) as error:
        raise ProtocolError("malformed entry") from error
    return entry
