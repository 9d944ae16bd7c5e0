"""Options of the ``inotify`` capture."""

from __future__ import annotations

import attrs


@attrs.frozen
class InotifyConfig:
    """The rule's ``[rule.capture]`` table, as far as it is this driver's."""

    unwatched_interval: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    """Seconds between two compares of directories that cannot be watched (watch limit, no permission)."""
