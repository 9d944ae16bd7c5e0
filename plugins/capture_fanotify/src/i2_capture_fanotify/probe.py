"""Checks whether fanotify can watch these roots, by doing it for a moment."""

from __future__ import annotations

import os

import attrs

from i2_capture_fanotify.directories import Directories
from i2_capture_fanotify.fanotify import Group
from i2_capture_fanotify.listener import Listener
from i2_capture_fanotify.roots import Roots
from i2core.api import CaptureContext, Probe, StopRule


def probe(context: CaptureContext) -> Probe:
    """Marks the roots' file systems, finds the roots by handle, and removes the marks."""
    try:
        with Group() as group:
            roots = Roots(group, Directories(16))
            roots.add(Listener(attrs.evolve(context, say=lambda line: None)).slots)
            kinds = b", ".join(roots.filesystems).decode()
            unwatched = "; ".join(f"not {os.fsdecode(path)}: {why}" for path, why in roots.unwatched)
            merged = "" if group.reports_targets else "; this kernel reports renames as removal and creation"
            return Probe(True, f"watches {kinds}{merged}" + (f"; {unwatched}" if unwatched else ""))
    except StopRule as error:
        where = f"{error.obj}: " if error.obj else ""
        return Probe(False, f"{where}{error.cause} ({error.next_step})")
