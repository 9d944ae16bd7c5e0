"""Moments that somebody reads just now, a mount or a recovery: they are not given up before he has ended.

Only this process knows its pins. Whoever pins a moment that is still kept can rely on it at once: what retention gives
up it has struck from the kept moments before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from i2core.history.retention.kept import Kept


class MomentGone(Exception):
    """The moment was given up. `Kept.neighbours` tells the nearest ones that are there."""

    def __init__(self, seq: int) -> None:
        super().__init__(f"the state after record {seq} is not kept any more")
        self.seq = seq


class Pins:
    """Pins by moment. To be used from the event loop alone."""

    def __init__(self, kept: Callable[[], Kept]) -> None:
        """`kept`: what can be had now."""
        self._kept = kept
        self._counts: Counter[int] = Counter()

    @contextmanager
    def pin(self, seq: int) -> Iterator[None]:
        """Within the body the state after the record stays readable.

        Raises:
            MomentGone: it is not kept.
        """
        if seq not in self._counts and not self._kept().has(seq):
            raise MomentGone(seq)
        self._counts[seq] += 1
        try:
            yield
        finally:
            self._counts[seq] -= 1
            if not self._counts[seq]:
                del self._counts[seq]

    @property
    def moments(self) -> tuple[int, ...]:
        """All that are pinned."""
        return tuple(sorted(self._counts))
