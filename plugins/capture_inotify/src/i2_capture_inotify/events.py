"""The events between the kernel's queue and the translation: those that were read, and those that must wait."""

from __future__ import annotations

import math

from i2_capture_inotify.kernel import READ_BYTES, Inotify
from i2_capture_inotify.translate import Translator

PAIR_WAIT_S = 0.02
"""How long the second half of a rename may take. The kernel queues both halves at once; they are separated only if
the kernel thread loses the CPU in between, or by the end of a read."""


class EventBuffer:
    """Events in memory, oldest first: `rest`, then `new`."""

    def __init__(self, inotify: Inotify, translator: Translator) -> None:
        self._inotify = inotify
        self._translator = translator
        self.new: list[bytes] = []
        """Not translated yet, as it was read."""
        self._new_bytes = 0
        self.rest = b""
        """Begins with the event at which the translation stopped: see `Translator.translate`."""
        self._settled = 0
        """At the time `pair_at`, the second halves of the renames in so many bytes of the rest are given up."""
        self.pair_at = -math.inf

    @property
    def has_any(self) -> bool:
        """True when an event is in memory or in the kernel's queue."""
        return bool(self.new or self.rest) or self._inotify.has_events

    def read(self, most: int) -> bool:
        """Takes events from the kernel until `most` new bytes are in memory; False when there are none."""
        while self._new_bytes < most:
            part = self._inotify.read()
            if not part:
                break
            self.new.append(part)
            self._new_bytes += len(part)
            if len(part) < READ_BYTES // 2:
                break
        return bool(self.new)

    def translate(self, now: float) -> bool:
        """Translates as far as possible; False when there was nothing to translate."""
        raw = self.rest + b"".join(self.new)
        self.new.clear()
        self._new_bytes = 0
        if not raw:
            return False
        translator = self._translator
        same_half = translator.unsettled
        rest = translator.translate(raw, self._settled if now >= self.pair_at else 0)
        if translator.unsettled and not (same_half and len(rest) == len(raw)):
            self.pair_at = now + PAIR_WAIT_S
            self._settled = len(rest)
        self.rest = rest
        return True
