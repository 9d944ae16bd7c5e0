"""Trees that the kernel does not report: directories without a watch, and file systems that other hosts change.

They are reported as lost at an interval, so that they are compared. New mounts beneath the roots are found here too,
because a mount makes no event.
"""

from __future__ import annotations

import math
import os

import trio

from i2_capture_inotify.config import InotifyConfig
from i2_capture_inotify.kernel import limit
from i2_capture_inotify.mounts import REMOTE, Mount, beneath, read_mounts
from i2_capture_inotify.probe import watches_refused
from i2_capture_inotify.walk import LIMIT_REACHED, Spot, Walk, Walker, count_directories
from i2_capture_inotify.watches import WatchTable
from i2core.api import CaptureContext, Lost, Place

MANY_UNWATCHED = 64
"""With more unwatched trees than this in one root, the whole root is compared instead of each tree."""


class UnwatchedTrees:
    """The trees of all roots that are not watched."""

    def __init__(self, config: InotifyConfig, context: CaptureContext, table: WatchTable, walker: Walker) -> None:
        self._config = config
        self._context = context
        self._table = table
        self._walker = walker
        self._mounts = self._mounts_beneath()
        self.report_at = math.inf
        """The time of the next report; infinite when everything is watched."""
        self._logged: set[str] = set()
        """Reasons that were logged since there was a tree without a watch."""

    def _mounts_beneath(self) -> dict[Place, Mount]:
        mounts = read_mounts()
        return {
            Place(root, path): mount
            for root, top in enumerate(self._context.roots)
            for path, mount in beneath(top, mounts).items()
        }

    def check_mounts(self) -> list[Spot]:
        """The directories on which something was mounted or unmounted since the last call."""
        before, self._mounts = self._mounts, self._mounts_beneath()
        changed = [
            place for place in before.keys() | self._mounts.keys() if before.get(place) != self._mounts.get(place)
        ]
        return [spot for spot in map(self._spot, changed) if spot is not None]

    async def report(self, now: float) -> list[Lost]:
        """The trees to compare, if a report is due; logs each reason once."""
        if not self._walker.unwatched and not any(mount.fstype in REMOTE for mount in self._mounts.values()):
            if self.report_at < math.inf:
                self.report_at = math.inf
                self._logged.clear()
            return []
        if now < self.report_at < math.inf:
            return []
        self.report_at = now + self._config.unwatched_interval
        unwatched = dict(self._walker.unwatched)
        for place, mount in self._mounts.items():
            if mount.fstype in REMOTE:
                unwatched[place] = f"changes by other hosts are not reported on {os.fsdecode(mount.fstype)}"
        for reason in set(unwatched.values()) - self._logged:
            self._logged.add(reason)
            await self._log(reason, [place for place in unwatched if unwatched[place] == reason])
        return self._lost(unwatched)

    def _lost(self, unwatched: dict[Place, str]) -> list[Lost]:
        lost = []
        for root in range(len(self._context.roots)):
            places = [place for place in unwatched if place.root == root]
            if len(places) > MANY_UNWATCHED:
                lost.append(Lost(Place(root, b""), f"{len(places)} directories are not watched"))
            else:
                lost += [Lost(place, f"not watched: {unwatched[place]}") for place in places]
        return lost

    async def _log(self, reason: str, places: list[Place]) -> None:
        first = os.path.join(self._context.roots[places[0].root], places[0].path)
        line = f"{len(places)} directories are not watched ({os.fsdecode(first)!r} first): {reason}"
        if reason == LIMIT_REACHED:
            needed = await trio.to_thread.run_sync(count_directories, self._context)
            line = watches_refused(needed, limit("max_user_watches"), exact=True)
        self._context.say(f"{line}; they are compared every {self._config.unwatched_interval:g} s instead")

    def walk(self) -> Walk:
        """A walk that tries again to watch them."""
        spots = [spot for spot in map(self._spot, self._walker.unwatched) if spot is not None]
        return Walk(*spots, distrust=True, announce=True)

    def _spot(self, place: Place) -> Spot | None:
        """Where to look for the directory at `place`; None when the directory above it is not watched."""
        above, _, name = place.path.rpartition(b"/")
        parent = self._table.at(place.root, above) if place.path else None
        return Spot(parent, name, place.root) if parent is not None or not place.path else None
