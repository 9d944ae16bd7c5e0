"""Limits repeated log lines: a failing link or disk must not fill the disk with its own messages, and a peer that
invents rules must not drive older lines out of the log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import attrs

BURST = 20
"""Lines of one kind that pass in one window."""
PEER_LINES = 100
PEER_CHARS = 50_000
"""Lines about the sessions of one peer, of all kinds together, that pass in one window, and their length."""
WINDOW_S = 60.0


class Kind(NamedTuple):
    """What lines have in common that are counted together."""

    rule: str
    code: int | None
    peer: str = ""
    """The peer whose sessions they are about; empty for lines of this node itself."""


class Suppressed(NamedTuple):
    """How many lines were left out in a window: of a kind, or of a peer because of its limit (`kind` is None)."""

    kind: Kind | None
    peer: str
    lines: int


@attrs.define
class _Window:
    began_s: float
    lines: int = 0
    chars: int = 0
    left_out: int = 0


@attrs.define
class RepeatLimit:
    """Lets `BURST` lines of one kind through in `WINDOW_S` seconds, and of all kinds of one peer `PEER_LINES` lines or
    `PEER_CHARS` characters. Counts the rest."""

    clock: Callable[[], float] = time.monotonic
    _kinds: dict[Kind, _Window] = attrs.field(factory=dict, init=False)
    _peers: dict[str, _Window] = attrs.field(factory=dict, init=False)

    def admit(self, kind: Kind, chars: int) -> bool:
        """Whether a line of `kind`, so long, may pass now."""
        peer = None
        if kind.peer:
            peer = self._peers.setdefault(kind.peer, _Window(self.clock()))
            if peer.lines >= PEER_LINES or peer.chars >= PEER_CHARS:
                peer.left_out += 1
                return False
        window = self._kinds.setdefault(kind, _Window(self.clock()))
        if window.lines >= BURST:
            window.left_out += 1
            return False
        window.lines += 1
        if peer is not None:
            peer.lines += 1
            peer.chars += chars
        return True

    def ended(self, *, all_of_them: bool = False) -> list[Suppressed]:
        """The suppressed lines of the windows that ended, if any. Each is returned once. Kinds are dropped with their
        windows, so that invented names from a peer do not use memory for long."""
        before_s = float("inf") if all_of_them else self.clock() - WINDOW_S
        kinds = [(kind, window) for kind, window in self._kinds.items() if window.began_s <= before_s]
        peers = [(peer, window) for peer, window in self._peers.items() if window.began_s <= before_s]
        for kind, _ in kinds:
            del self._kinds[kind]
        for peer, _ in peers:
            del self._peers[peer]
        return [
            *(Suppressed(kind, kind.peer, window.left_out) for kind, window in kinds if window.left_out),
            *(Suppressed(None, peer, window.left_out) for peer, window in peers if window.left_out),
        ]
