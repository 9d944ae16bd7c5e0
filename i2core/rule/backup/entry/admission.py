"""Limits what one work node may have open here, so that the others always keep what they need.

Counted for each peer: connections that have not sent their greeting yet, rules, sessions of one rule, open directories,
worker threads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

import trio

from i2core.api import Code, LinkError, StopRule
from i2core.config.words import bilingual
from i2core.wire.messages import Hello

GREETINGS = 32
"""Connections of one peer that have not sent their greeting; one more ends the oldest."""
RULES = 1000
"""Rules of one peer, including earlier ones that nobody has removed with `i2 rule forget`."""
SESSIONS = 8
"""Sessions of one rule: one for each channel, and some that are ending after the link broke."""
ROOTS = 4000
"""Target directories that sessions of one peer hold open."""

THREADS = 8
"""Worker threads of one peer. A busy session uses two: for its work, and for a flush. More than four busy sessions of a
peer take turns. With more threads the others would hardly be slower on a disk, but each of them that computes makes the
event loop wait for the interpreter lock."""


class Admission:
    """The counts. From the trio thread alone."""

    def __init__(self) -> None:
        self._greeting: dict[str, dict[trio.CancelScope, None]] = {}
        self._sessions: Counter[tuple[str, str]] = Counter()
        self._roots: Counter[str] = Counter()
        self._threads: WeakValueDictionary[str, trio.CapacityLimiter] = WeakValueDictionary()

    def threads(self, who: str) -> trio.CapacityLimiter:
        """The worker threads of the peer, for `own_threads`: the same for all of its connections. No other peer uses
        them, so each peer and the daemon itself always find free ones."""
        limiter = self._threads.get(who)
        if limiter is None:
            limiter = self._threads[who] = trio.CapacityLimiter(THREADS)
        return limiter

    @contextmanager
    def greeting(self, who: str) -> Iterator[None]:
        """Counts a connection until it has sent its greeting.

        Raises:
            LinkError: it was ended because the peer has opened many more.
        """
        waiting = self._greeting.setdefault(who, {})
        if len(waiting) >= GREETINGS:
            oldest = next(iter(waiting))
            del waiting[oldest]
            oldest.cancel()
        with trio.CancelScope() as scope:
            waiting[scope] = None
            try:
                yield
            finally:
                waiting.pop(scope, None)
                if not waiting and self._greeting.get(who) is waiting:
                    del self._greeting[who]
        if scope.cancelled_caught:
            raise LinkError(f"more than {GREETINGS} connections of {who} waited to greet")

    @contextmanager
    def session(self, who: str, hello: Hello, rules: set[str]) -> Iterator[None]:
        """Counts a session while it opens and is open. `rules`: the peer's rules that are known here.

        Raises:
            StopRule: the peer has as many rules or directories here as it may (3628).
            LinkError: earlier sessions of the rule are still ending.
        """
        if hello.rule not in rules and len(rules) >= RULES:
            raise _too_many(f"{RULES} rules of {who} are known here", f"此处已有 {who} 的 {RULES} 条规则", hello.rule)
        if self._roots[who] + len(hello.targets) > ROOTS:
            raise _too_many(
                f"rules of {who} have {self._roots[who]} of at most {ROOTS} target directories open",
                f"{who} 的规则已打开 {self._roots[who]} 个目标目录，上限 {ROOTS}",
                hello.rule,
            )
        key = (who, hello.rule)
        if self._sessions[key] >= SESSIONS:
            raise LinkError(f"{SESSIONS} earlier sessions of the rule are still ending", obj=hello.rule)
        self._sessions[key] += 1
        self._roots[who] += len(hello.targets)
        try:
            yield
        finally:
            self._sessions[key] -= 1
            self._roots[who] -= len(hello.targets)
            if not self._sessions[key]:
                del self._sessions[key]
            if not self._roots[who]:
                del self._roots[who]


def _too_many(en: str, zh: str, rule: str) -> StopRule:
    return StopRule(bilingual(en, zh), code=Code.PEER_LIMIT, obj=rule)
