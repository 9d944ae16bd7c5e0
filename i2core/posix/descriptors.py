"""Limits of open files: of this process, and of caches that keep files open only to save opening them again."""

from __future__ import annotations

import resource
from contextlib import suppress

_SHARE = 8
"""One cache uses so much of the limit: several rules and sessions have one each, and all of them need files as well."""
_LEAST = 4


def raise_limit() -> None:
    """Lets this process, and those that it forks, open as many files as its hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Refused where fs.nr_open was lowered beneath the hard limit: caches follow the soft one.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def may_keep(most: int) -> int:
    """How many descriptors a cache may keep open: `most`, and fewer where the limit of this process is low."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return most if soft == resource.RLIM_INFINITY else min(most, max(_LEAST, soft // _SHARE))
