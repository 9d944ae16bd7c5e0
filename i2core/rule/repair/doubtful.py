"""Unverified names: they differ on the replica, or may differ. Each stays unverified until it was compared and the
records of the compare were applied without a failure.

    failed, or unknown ──▶ waits ──due──▶ being compared ──▶ answer pending ──applied──▶ right
                             ▲                                     │
                             └──────── failed: waits longer ───────┘

A name that fails repeatedly (an immutable file, a mount point in the way, an exhausted quota) is retried for ever:
after a second, then with waits that double up to some minutes, each name by itself. The obstacle may disappear at any
time, without an event. A name that failed more than once, or that the replica's file system refused, is *stuck*: it is
compared alone, without its whole directory, which may be huge.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import attrs
import trio

from i2core.api import Code, Failure
from i2core.rule.catalog.rows import Depth, Doubt

RETRY_S = (1.0, 300.0)
"""First and longest wait before a failed name is retried; each wait doubles, with jitter so that a thousand names are
not retried at the same moment."""
RARE_S = 900.0
"""Wait before a whole root is compared because it has more failed names than are kept."""
MOST = 20_000
"""At most so many names are kept one by one; for further failures only the root is remembered."""
LEFT_OUT = frozenset({Code.ILLEGAL_PATH, Code.SAVE_ATTRIBUTES, Code.MESSAGE_TYPE, Code.REPLICA_UNFIT})
"""Failures with these codes are permanent: that replica cannot hold the object."""

Name = tuple[int, bytes]
"""The id of a directory's row and a name in it: the subject of a doubt, whatever object has that name."""


def name_of(doubt: Doubt) -> Name:
    """The name that the doubt is about."""
    return doubt.parent, doubt.name


def is_left_out(failure: Failure) -> bool:
    """True when the failure is permanent: neither a compare nor waiting helps."""
    return not failure.repair and failure.code in LEFT_OUT


@attrs.define
class _Case:
    """One unverified name."""

    due: float
    """By trio's clock; infinite while it is compared, or waits for the answer."""
    waiting: dict[Doubt, None] = attrs.field(factory=dict)
    asked: dict[Doubt, None] = attrs.field(factory=dict)
    """The doubts being compared, or compared and waiting for the answer."""
    answer_seq: int | None = None
    """The name is right when all records up to this seq are applied and it has not failed again; None: it is still
    being compared."""
    tries: int = 0
    """How often it failed; failures during one wait count once."""
    line: str = ""
    """The log line for when it is right again; empty: its failure was not logged."""

    @property
    def stuck(self) -> bool:
        """True when it is compared by itself."""
        return self.tries > 1


class Doubtful:
    """All unverified names of one rule. For the trio thread."""

    def __init__(self) -> None:
        self._cases: dict[Name, _Case] = {}
        self._asked: dict[Name, _Case] = {}
        self._dropped: set[Name] = set()
        self._next: float | None = None
        self._stale = False

    def __len__(self) -> int:
        """How many names there are."""
        return len(self._cases)

    @property
    def due_at(self) -> float:
        """When the next of them is to be compared; infinite: none waits."""
        if self._stale or self._next is None:
            self._next = min((case.due for case in self._cases.values() if case.waiting), default=float("inf"))
            self._stale = False
        return self._next

    @property
    def is_due(self) -> bool:
        """True when one is to be compared now."""
        return trio.current_time() >= self.due_at

    @property
    def rests(self) -> bool:
        """True when all of them wait: none is due or being compared."""
        return not self._asked and not self.is_due

    def clear(self) -> None:
        """Forgets all: everything is compared again."""
        self._cases.clear()
        self._asked.clear()
        self._dropped.clear()
        self._stale = True

    def add(self, doubts: Iterable[Doubt], *, after_s: float = 0.0) -> None:
        """Adds doubts. They are compared at once, or when the wait of the name is over; with `after_s` after that
        time."""
        now = trio.current_time()
        for doubt in doubts:
            case = self._cases.get(name_of(doubt))
            if name_of(doubt) in self._dropped:
                continue
            if case is None:
                case = self._cases[name_of(doubt)] = _Case(now + after_s)
            elif after_s and not case.tries:
                case.due = now + after_s
                self._unask(doubt, case)
            elif not case.waiting and not case.asked:
                case.due = now
            case.waiting[doubt] = None
        self._stale = True

    def failed(self, doubt: Doubt, *, refused: bool, root: int = 0) -> int:
        """The name could not be repaired. Returns how often this happened so far; 0 when the name waits already, so
        that this failure is no news. `refused`: comparing its whole directory is useless, since the replica is as the
        catalog says. The name lies in `root`."""
        now, name = trio.current_time(), name_of(doubt)
        case = self._cases.get(name)
        if name in self._dropped:
            return 0
        if case is None:
            if len(self._cases) >= MOST:
                self._overflow(root, now)
                return 0
            case = self._cases[name] = _Case(now)
        elif case.tries and case.waiting and not case.asked:
            case.waiting[doubt] = None
            return 0  # another record about it, or a change that arrived while it waits
        self._unask(doubt, case)
        case.waiting[doubt] = None
        case.tries = max(case.tries + 1, 2 if refused else 1)
        first, longest = RETRY_S
        wait_s = min(first * 2 ** min(case.tries - 2, 30), longest) if case.stuck else 0.0
        case.due = now + wait_s * random.uniform(0.75, 1.25)  # noqa: S311 (jitter, not a secret)
        self._stale = True
        return case.tries

    def _unask(self, doubt: Doubt, case: _Case) -> None:
        """The doubts about the name that were compared wait again."""
        self._asked.pop(name_of(doubt), None)
        case.waiting |= case.asked
        case.asked, case.answer_seq = {}, None

    def _overflow(self, root: int, now: float) -> None:
        whole = Doubt(0, b"%d" % root, 0, Depth.SUBTREE)
        self._cases.setdefault(name_of(whole), _Case(now + RARE_S)).waiting.setdefault(whole)
        self._stale = True

    def say(self, doubt: Doubt, line: str) -> None:
        """The failure of the name was logged; `line` is logged when it is right again."""
        self._cases[name_of(doubt)].line = line

    def drop(self, doubt: Doubt) -> None:
        """Gives the name up, whatever else fails about it."""
        self._dropped.add(name_of(doubt))
        self._cases.pop(name_of(doubt), None)
        self._asked.pop(name_of(doubt), None)
        self._stale = True

    def take(self, *, stuck: bool) -> dict[Doubt, None]:
        """Returns the doubts that are due now, either the stuck ones or the others; they count as being compared. Names
        known to lie beneath a stuck directory wait until that directory itself is right."""
        now = trio.current_time()
        taken: dict[Doubt, None] = {}
        for name, case in self._cases.items():
            if case.waiting and case.due <= now and case.stuck == stuck:
                taken |= case.waiting
                case.asked = case.waiting
                case.waiting = {doubt: None for doubt in case.asked if stuck and doubt.deep}
                case.due, case.answer_seq = float("inf"), None
                self._asked[name] = case
        self._stale = True
        return taken

    def put_back(self, doubts: Iterable[Doubt]) -> None:
        """They could not be compared: the link broke, or a resource was exhausted."""
        for doubt in doubts:
            case = self._cases.setdefault(name_of(doubt), _Case(trio.current_time()))
            self._unask(doubt, case)
            case.waiting[doubt] = None
            case.due = min(case.due, trio.current_time())
        self._stale = True

    def compared(self, doubts: Iterable[Doubt], answer_seq: int | None) -> list[str]:
        """They were compared; `answer_seq` is the last record that this sent. None: nothing had to be sent, and they
        are right. Returns log lines."""
        lines: list[str] = []
        for doubt in doubts:
            case = self._asked.get(name_of(doubt))
            if case is None or not case.asked:
                continue  # it failed meanwhile, or is to be compared again
            case.answer_seq = answer_seq
            if answer_seq is None:
                lines += self._right(name_of(doubt), case)
        return lines

    def answered(self, applied_seq: int) -> list[str]:
        """All records up to `applied_seq` are applied, and each failure among them was reported. Returns log lines."""
        lines: list[str] = []
        for name, case in list(self._asked.items()) if self._asked else ():
            if case.answer_seq is not None and case.answer_seq <= applied_seq:
                lines += self._right(name, case)
        return lines

    def _right(self, name: Name, case: _Case) -> Iterator[str]:
        """The name is right. Doubts that waited for it are compared now."""
        del self._asked[name]
        case.asked, case.tries = {}, 0
        self._stale = True
        if case.waiting:
            case.due = trio.current_time()
            return
        del self._cases[name]
        if case.line:
            yield case.line

    def lost(self) -> None:
        """The link broke: pending answers will not arrive."""
        now = trio.current_time()
        for case in self._asked.values():
            case.waiting |= case.asked
            case.asked, case.answer_seq, case.due = {}, None, now
        self._asked.clear()
        self._stale = True
