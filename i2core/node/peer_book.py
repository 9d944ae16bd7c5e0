"""Whom this node came to trust by enrolment, and whom it trusts no more: kept in ``state_dir/peers.json``.

The config file is the administrator's, and no program writes it. What tokens and revocations change stands here.
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
from i2core.node.private_file import PrivateJson, locked_directory
from i2core.node.speech import said

FILE = "peers.json"


class PeerRole(enum.Enum):
    """What a peer is to this node."""

    WORK = "work"
    """It sends rules here."""
    BACKUP = "backup"
    """Rules are sent to it."""
    CONSOLE = "console"
    """It may do all that the control API offers."""


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
    """Whether a peer may be called so: a name as in a config, and none that could be taken for a fingerprint."""
    try:
        return values.name(name) == name and not name.startswith("sha256:")
    except Wrong:
        return False


@attrs.frozen(kw_only=True)
class Enrolled:
    """A peer that a token made trusted."""

    name: str = attrs.field(validator=_name)
    fingerprint: str = attrs.field(validator=_pin)
    role: PeerRole
    since: str
    """ISO 8601, UTC, to the second."""


@attrs.frozen(kw_only=True)
class Revoked:
    """A certificate that is trusted no more, whatever else says so; the name is there for people."""

    name: str = attrs.field(validator=_name)
    fingerprint: str = attrs.field(validator=_pin)
    since: str


@attrs.frozen(kw_only=True)
class Book:
    """The whole content of the file."""

    enrolled: tuple[Enrolled, ...] = ()
    revoked: tuple[Revoked, ...] = ()

    def with_peer(self, peer: Enrolled) -> Book:
        """Trusts `peer`, in the place of any that had its name or its certificate in this role, and although it was
        revoked before: who enrols it means it. One that is there already keeps its day."""
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
        """Trusts these certificates no more, in any role."""
        new = {one.fingerprint: one for one in gone}
        return Book(
            enrolled=tuple(one for one in self.enrolled if one.fingerprint not in new),
            revoked=(*(one for one in self.revoked if one.fingerprint not in new), *new.values()),
        )


def now_text() -> str:
    """This moment as the book writes it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


_converter = cattrs.Converter(forbid_extra_keys=True)


class PeerBook:
    """The file. Any process of the node's user may change it; the daemon rereads it when told."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._file = PrivateJson(state_dir / FILE)

    def read(self) -> Book:
        """What stands there; an empty book when there is no file.

        Raises:
            UsageError: the file is damaged, or others may write it.
        """
        document: Any = self._file.read()
        if document is None:
            return Book()
        try:
            return _converter.structure(document, Book)
        except Exception as error:  # cattrs raises many kinds; all mean the same here
            raise self._file.damaged() from error

    def change(self, how: Callable[[Book], Book]) -> Book:
        """Replaces the book by ``how(book)``; durable on return.

        Raises:
            UsageError: it cannot be read or written; nothing was changed. Also what `how` raises.
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
                next_step=said("check state_dir and its permissions", "请检查 state_dir 及其权限"),
            ) from error
