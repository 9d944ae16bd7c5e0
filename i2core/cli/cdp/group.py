"""The group ``i2 cdp``."""

from __future__ import annotations

import click

from i2core.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_at={
        "range": ("i2core.cli.cdp.look:range_", "Show which moments can be had."),
        "log": ("i2core.cli.cdp.look:log", "Show what was changed."),
        "diff": ("i2core.cli.cdp.look:diff", "Show what differs between two moments."),
        "find-change": ("i2core.cli.cdp.find_change:find_change", "Find the moment at which an answer turned."),
        "space": ("i2core.cli.cdp.look:space", "Show how much room the history takes."),
        "verify": ("i2core.cli.cdp.look:verify", "Prove that the journal is what was written."),
        "rewind": ("i2core.cli.cdp.rewind:rewind", "Turn the replica itself back to a moment, in place."),
        "trim": ("i2core.cli.cdp.trim:trim", "Give up old moments by hand."),
    },
    short_help="Look into the past of a received rule, and change what is kept of it.",
)
def cdp() -> None:
    """Look into the past of a received rule, and change what is kept of it. For the backup node.

    A rule with cdp = { … } has a history: every change of its replica is kept, so that every moment can be had again.

    \b
    Moments are written as
      2026-11-29T22:31:07.123456     in the work node's time zone
      2026-11-29T22:31:07+08:00      with a zone
      -90s, -2h, -1.5d               before now

    If several work nodes have a rule of that name, name it as PEER/RULE.
    """
