"""`Station`: one notification group for all rules of this process, which is read once for all of them.

One mark for each file system covers everything on it from the start, so there is no race with new directories and no
limit of watches. Events outside the roots are dropped after one look into the cache. There is no filter by process: a
write of this process beneath a root is a change like any other, because a replica may be the source of another rule.
Only events of changes are subscribed to, so that reading makes none.

The station has no task of its own. One of the waiting rules reads the group for all; when it has received something,
the next one takes over. While no rule waits, events stay in the kernel's queue."""

from __future__ import annotations

import math
import os
import select

import trio

from i2_capture_fanotify.directories import Directories
from i2_capture_fanotify.event import parse
from i2_capture_fanotify.fanotify import Group
from i2_capture_fanotify.filesystem import Unsettled
from i2_capture_fanotify.listener import Listener
from i2_capture_fanotify.marks import SameId
from i2_capture_fanotify.mounts import MOUNTINFO
from i2_capture_fanotify.roots import Roots
from i2_capture_fanotify.translate import Translator
from i2core.api import Change, Lost, StopRule

NOISE_S = 0.004
"""Pause in seconds after a read with no events beneath the roots."""
UNREAD_READS = 8
"""Most reads for one call of `unread`."""
SURVEY_AGAIN_S = 2.0
"""Seconds until the retry of a survey that failed for lack of memory or descriptors."""
SURVEY_FACTOR = 10
"""Pause between two surveys, as a multiple of the duration of the last one."""


class Station:
    """Reads one group for several listeners. Not thread-safe."""

    def __init__(self, group: Group | None = None) -> None:
        """`group` replaces the default group.

        Raises:
            StopRule: fanotify is not permitted, or not supported here.
            OSError: the system lacks descriptors.
        """
        self._mountinfo = os.open(MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._group = group or Group()
        except BaseException:
            os.close(self._mountinfo)
            raise
        # The file of the mount table is always readable, and each poll consumes the notice of a change (POLLPRI). But
        # every change is an edge, and an own epoll keeps the edge until it is fetched; trio waits for that epoll. The
        # first edge is not a change.
        self._epoll = select.epoll()
        self._epoll.register(self._group.fd, select.EPOLLIN)
        self._epoll.register(self._mountinfo, select.EPOLLIN | select.EPOLLET)
        self._epoll.poll(0)
        self._directories = Directories(0)
        self._roots = Roots(self._group, self._directories)
        self._translator = Translator(self._roots, self._directories)
        self._listeners: set[Listener] = set()
        self._reader: Listener | None = None
        self._idle: dict[Listener, trio.Event] = {}
        """The listeners that wait for the reader, each with the event that wakes it."""
        self._survey_at = -math.inf
        self._pause = trio.CancelScope()
        """The scope in which the reader waits."""

    def join(self, listener: Listener, cached_directories: int) -> None:
        """Watches the listener's roots from now on.

        Raises:
            SameId: not in one group with those that have joined already.
            StopRule: a root is missing, or cannot be watched.
            OSError: the system lacks memory or descriptors.
        """
        self._directories.allow(cached_directories)
        self._roots.add(listener.slots)
        self._listeners.add(listener)

    def leave(self, listener: Listener) -> bool:
        """Stops watching its roots; True if no listener is left and the station is closed."""
        self._listeners.discard(listener)
        if self._listeners:
            self._roots.remove(listener.slots)
            return False
        trio.lowlevel.notify_closing(self._epoll.fileno())
        self.close()
        return True

    def close(self) -> None:
        """Ends the group, and with it all marks."""
        self._directories.close()
        self._epoll.close()
        os.close(self._mountinfo)
        os.close(self._group.fd)

    async def fetch(self, listener: Listener) -> list[Change | Lost]:
        """The reports for this listener; waits until there is one. Cancellation: nothing is lost.

        Raises:
            StopRule: its roots cannot be watched any more.
        """
        if listener.ready:
            await trio.lowlevel.checkpoint()
        while not listener.ready:
            if self._reader is None:
                await self._read_until_ready(listener)
            else:
                await self._wait_for_reader(listener)
        return listener.fetch()

    def unread(self, listener: Listener) -> bool:
        """True if there are reports for this listener, or if unread events may bring some.

        Waiting events are read first. Otherwise, on a busy file system, events of other files would wait nearly always,
        and the rule would hardly ever count as idle. Events that are held back for a moment (`Translator.due_at`) do
        not count for the same reason: they may be about any file of the system with several names.
        """
        for _ in range(UNREAD_READS):
            if listener.ready or not self._group.has_events:
                return listener.ready
            self._gather()
            if self._reader is not None and self._reader.ready:
                self._pause.cancel()  # the events it waits for have been read
        return True

    # ---------------------------------------------------------------------------------------- taking turns

    async def _read_until_ready(self, listener: Listener) -> None:
        self._reader = listener
        try:
            while not listener.ready:
                await self._turn(listener)
        finally:
            self._reader = None
            self._wake_next()

    async def _wait_for_reader(self, listener: Listener) -> None:
        event = self._idle[listener] = trio.Event()
        try:
            await event.wait()
        except BaseException:
            if self._reader is None:
                self._wake_next()
            raise
        finally:
            self._idle.pop(listener, None)

    def _wake_next(self) -> None:
        """Makes one of the waiting listeners the reader."""
        if self._idle:
            self._idle.pop(next(iter(self._idle))).set()

    # ---------------------------------------------------------------------------------------- reading

    async def _turn(self, reader: Listener) -> None:
        """Waits for events or timers, and handles them."""
        until = self._survey_at if self._translator.survey_due else math.inf
        due_at = self._translator.due_at
        with trio.move_on_at(until if due_at is None else min(until, due_at)) as self._pause:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
        if not (self._gather() or reader.ready):
            # All events were outside the roots: other programs write to this file system, perhaps to a replica on it.
            # Waking for each of their changes would cost more than a short pause, after which one read gets them all.
            await trio.sleep(NOISE_S)

    def _gather(self) -> bool:
        """Reads, and wakes the waiting listeners that received something; True if there were any."""
        try:
            self._collect()
        except StopRule as error:
            for listener in self._listeners:  # the events that were read are lost for all
                listener.failure = error
        woken = False
        for listener in self._listeners:
            if listener.ready:
                listener.bound()
                if (event := self._idle.pop(listener, None)) is not None:
                    event.set()
                    woken = True
        return woken

    def _collect(self) -> None:
        """Reads and translates the waiting events, up to a limit."""
        translator, ready = self._translator, {fd for fd, _ in self._epoll.poll(0)}
        translator.survey_due |= self._mountinfo in ready
        try:
            if self._mountinfo in ready:
                self._survey()
            if self._group.fd in ready:
                translator.translate(parse(self._group.read(), translator.noise))
            translator.report_due()
            if translator.survey_due and trio.current_time() >= self._survey_at:
                self._survey()
        finally:
            self._directories.close()

    def _survey(self) -> None:
        begun = trio.current_time()
        self._translator.survey_due = False
        try:
            self._roots.survey()
        except Unsettled:
            self._translator.survey_due = True
            self._survey_at = begun + SURVEY_AGAIN_S
            return
        self._survey_at = begun + SURVEY_FACTOR * (trio.current_time() - begun)


_stations: trio.lowlevel.RunVar[list[Station]] = trio.lowlevel.RunVar("i2_capture_fanotify.stations")


def join(listener: Listener, cached_directories: int) -> Station:
    """The station of this process that watches the listener's roots from now on. Rules share a station as far as their
    file systems have different ids.

    Raises:
        StopRule: a root is missing, or cannot be watched.
        OSError: the system lacks memory or descriptors.
    """
    stations = _stations.get([])
    _stations.set(stations)
    for station in stations:
        try:
            station.join(listener, cached_directories)
        except SameId:
            continue
        return station
    station = Station()
    try:
        station.join(listener, cached_directories)
    except BaseException:
        station.close()
        raise
    stations.append(station)
    return station


def leave(station: Station, listener: Listener) -> None:
    """The end of `join`."""
    if station.leave(listener):
        stations = _stations.get([])
        if station in stations:
            stations.remove(station)
