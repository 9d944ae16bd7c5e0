"""The object found at one place."""

from __future__ import annotations

from typing import NamedTuple

from i2core.api import Entry, Place
from i2core.api.tree import OpenDirectory


class Found(NamedTuple):
    """The object that is at `place` now, in the open `directory`."""

    directory: OpenDirectory
    place: Place
    entry: Entry
