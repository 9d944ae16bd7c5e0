"""Can fanotify watch these roots? Answered by doing it for a moment."""

from __future__ import annotations

import os

import attrs

from i2_capture_fanotify.directories import Directories
from i2_capture_fanotify.fanotify import Group
from i2_capture_fanotify.roots import Roots
from i2core.api import CaptureContext, Probe, StopRule


def probe(context: CaptureContext) -> Probe:
    """Marks the roots' file systems, finds the roots by handle, and lets go again."""
    try:
        with Group() as group:
            silent = attrs.evolve(context, say=lambda line: None)
            roots = Roots(group, silent, Directories(16, context.wants_dir))
            roots.start()
            kinds = b", ".join(roots.filesystems).decode()
            unwatched = "; ".join(f"not {os.fsdecode(place.path)}: {why}" for place, why in roots.unwatched)
            merged = "" if group.reports_targets else "; renames are told as removal and creation by this kernel"
            return Probe(True, f"watches {kinds}{merged}" + (f"; {unwatched}" if unwatched else ""))
    except StopRule as error:
        where = f"{error.obj}: " if error.obj else ""
        return Probe(False, f"{where}{error.cause} ({error.next_step})")
