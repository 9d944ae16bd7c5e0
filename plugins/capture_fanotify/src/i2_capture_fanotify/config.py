"""Options of the capture, as the rule's table ``capture = { name = "fanotify", … }`` gives them."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class FanotifyConfig:
    """`cached_directories`: directories whose place is kept in memory, about 0.5 KB each; one that is not costs some
    20 µs when it is named again."""

    cached_directories: int = attrs.field(default=65_536, validator=attrs.validators.ge(16))
