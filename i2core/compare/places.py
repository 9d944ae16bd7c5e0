"""Paths as people name them on the source of a rule."""

from __future__ import annotations

import os
from collections.abc import Sequence

from i2core.api import Place, UsageError
from i2core.api.records import safe_path
from i2core.config.model import Pair
from i2core.config.words import bilingual
from i2core.posix.path_text import shown


def place_of(path: str, pairs: Sequence[Pair]) -> Place:
    """The place of a path: absolute beneath a source, or relative to the only one. It need not exist.

    Raises:
        UsageError: it is beneath none.
    """
    wanted = os.fsencode(path)
    if not wanted.startswith(b"/") and len(pairs) == 1:
        wanted = pairs[0].source + b"/" + wanted
    wanted = os.path.normpath(wanted)
    for root, pair in enumerate(pairs):
        if wanted == pair.source or wanted.startswith(pair.source.rstrip(b"/") + b"/"):
            beneath = wanted[len(pair.source) :].strip(b"/")
            if os.path.isfile(pair.source):  # a pair of single files is the directory of the source
                beneath = os.path.basename(pair.source)
            if safe_path(beneath):
                return Place(root, beneath)
    known = ", ".join(shown(pair.source) for pair in pairs)
    raise UsageError(
        bilingual(f"it is not beneath a source of the rule ({known})", f"它不在该规则的源目录之下（{known}）"),
        obj=shown(wanted),
    )


def source_path(pairs: Sequence[Pair], place: Place) -> bytes:
    """The absolute path of a place on the source."""
    source = pairs[place.root].source
    above = source if not os.path.isfile(source) else os.path.dirname(source)
    return above + (b"/" + place.path if place.path else b"")
