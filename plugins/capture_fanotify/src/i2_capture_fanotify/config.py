"""Options of the capture, from the rule's table ``capture = { name = "fanotify", … }``."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class FanotifyConfig:
    """`cached_directories`: directories whose place is cached in memory, about 0.5 KB each; an uncached one costs about
    20 µs when an event names it."""

    cached_directories: int = attrs.field(default=65_536, validator=attrs.validators.ge(16))
