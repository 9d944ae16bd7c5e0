"""The enrolled and the revoked peers, kept in ``state_dir/peers.json``.

The config file belongs to the administrator, and no program writes it. Changes by tokens and revocations are kept here.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
import cattrs

from i2core.api import UsageError
from i2core.config import values
from i2core.config.values import Wrong
from i2core.config.words import bilingual
from i2core.node.pairing.private_file import PrivateJson, locked_directory

FILE = "peers.json"


class PeerRole(enum.Enum):
    """The role of a peer towards this node."""

    WORK = "work"
    """It sends rules here."""
    BACKUP = "backup"
    """Rules are sent to it."""
    CONSOLE = "console"
    """It may use the whole control API."""


def _name(_entry: object, _field: object, value: str) -> None:
    if not peer_name_fits(value):
        raise ValueError(value)


def _pin(_entry: object, _field: object, value: str) -> None:
    try:
        fits = values.fingerprint(value) == value
    except Wrong:
        fits = False
    if not fits:
        raise ValueError(value)


def peer_name_fits(name: str) -> bool:
    """Whether a peer may have this name: one that a config accepts, and that cannot be mistaken for a fingerprint."""
    try:
        return values.name(name) == name and not name.startswith("sha256:")
    except Wrong:
        return False


@attrs.frozen(kw_only=True)
class Enrolled:
    """A peer that was enrolled with a token."""

    name: str = attrs.field(validator=_name)
    fingerprint: str = attrs.field(validator=_pin)
    role: PeerRole
    since: str
    """ISO 8601, UTC, to the second."""


@attrs.frozen(kw_only=True)
class Revoked:
    """A certificate that is not trusted any more, even if config or book name it; the name is for people."""

    name: str = attrs.field(validator=_name)
    fingerprint: str = attrs.field(validator=_pin)
    since: str


@attrs.frozen(kw_only=True)
class Book:
    """The whole content of the file."""

    enrolled: tuple[Enrolled, ...] = ()
    revoked: tuple[Revoked, ...] = ()

    def with_peer(self, peer: Enrolled) -> Book:
        """Trusts `peer`. It replaces any peer with the same name or certificate in this role. An earlier revocation is
        lifted, because the administrator made a new token. A peer that is enrolled already keeps its date."""
        same = [one for one in self.enrolled if attrs.evolve(one, since=peer.since) == peer]
        if same:
            peer = same[0]
        others = [
            one
            for one in self.enrolled
            if one.role is not peer.role or (one.name != peer.name and one.fingerprint != peer.fingerprint)
        ]
        kept = [one for one in self.revoked if one.fingerprint != peer.fingerprint]
        return Book(enrolled=(*others, peer), revoked=tuple(kept))

    def without(self, gone: Iterable[Revoked]) -> Book:
        """Stops trusting these certificates, in every role."""
        new = {one.fingerprint: one for one in gone}
        return Book(
            enrolled=tuple(one for one in self.enrolled if one.fingerprint not in new),
            revoked=(*(one for one in self.revoked if one.fingerprint not in new), *new.values()),
        )


def now_text() -> str:
    """The current time in the format of the book."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


_converter = cattrs.Converter(forbid_extra_keys=True)


class PeerBook:
    """The file. Any process of the node's user may change it; the daemon rereads it on request."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._file = PrivateJson(state_dir / FILE)

    def read(self) -> Book:
        """The content of the file; an empty book if there is none.

        Raises:
            UsageError: the file is damaged, or others may write it.
        """
        document: Any = self._file.read()
        if document is None:
            return Book()
        try:
            return _converter.structure(document, Book)
        except Exception as error:  # cattrs raises many kinds; all mean a damaged file
            raise self._file.damaged() from error

    def change(self, how: Callable[[Book], Book]) -> Book:
        """Replaces the book by ``how(book)``; durable on return.

        Raises:
            UsageError: it cannot be read or written; nothing was changed. Errors of `how` are passed on.
        """
        try:
            with locked_directory(self._state_dir) as held:
                before = self.read()
                after = how(before)
                if after != before:
                    self._file.write(_converter.unstructure(after), held)
                return after
        except OSError as error:
            raise UsageError(
                error.strerror or str(error),
                obj=str(self._state_dir),
                next_step=bilingual("check state_dir and its permissions", "请检查 state_dir 及其权限"),
            ) from error
