"""Options of the ``inotify`` capture."""

from __future__ import annotations

import attrs


@attrs.frozen
class InotifyConfig:
    """This driver's options in the rule's ``[rule.capture]`` table."""

    unwatched_interval: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    """Seconds between two comparisons of directories that cannot be watched (watch limit, no permission)."""
