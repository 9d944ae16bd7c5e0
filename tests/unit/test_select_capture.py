"""Choosing a capture: the best one that works is chosen, and the log says which one, why, and why not the others."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import pytest

from i2core.api import CaptureContext, Code, DriverKind, DriverSpec, Probe, UsageError
from i2core.drivers.scan import SCAN
from i2core.drivers.select import choose_capture, probe
from i2core.testing import ScriptedCapture


@attrs.frozen
class Given:
    """A registry of these captures."""

    captures: tuple[DriverSpec, ...]

    def driver(self, kind: DriverKind, name: str, /) -> DriverSpec:
        """The capture of that name."""
        found = self.drivers(kind).get(name)
        if found is None:
            raise UsageError(f"no {name}")
        return found

    def drivers(self, kind: DriverKind, /) -> Mapping[str, DriverSpec]:
        """All of them."""
        assert kind is DriverKind.CAPTURE
        return {spec.name: spec for spec in self.captures}


def capture(name: str, rank: int, why: str, *, works: bool = True) -> DriverSpec:
    """A capture whose probe says this."""
    return attrs.evolve(ScriptedCapture().spec(name), rank=rank, probe=lambda context: Probe(works, why))


FANOTIFY = capture("fanotify", 20, "needs root", works=False)
INOTIFY = capture("inotify", 10, "one watch a directory")
POLL = capture("poll", 0, "compares at an interval")


def choose(name: str, *captures: DriverSpec) -> tuple[str, list[str]]:
    """The chosen capture, and the log."""
    said: list[str] = []
    context = CaptureContext(roots=(b"/",), say=said.append)
    return choose_capture(Given(captures), name, context).name, said


def test_auto_takes_the_best_that_works_and_says_why() -> None:
    for captures in ((POLL, INOTIFY, FANOTIFY), (FANOTIFY, INOTIFY, POLL)):
        name, said = choose("auto", *captures)
        assert name == "inotify"
        assert said == ["capture inotify: one watch a directory; not fanotify: needs root"]


def test_auto_fails_with_every_reason() -> None:
    with pytest.raises(UsageError, match="not fanotify: needs root; not poll: too slow") as failed:
        choose("auto", FANOTIFY, capture("poll", 0, "too slow", works=False))
    assert failed.value.code is Code.CAPTURE_UNFIT
    with pytest.raises(UsageError, match="no capture is installed"):
        choose("auto")


def test_the_one_that_was_asked_for_is_taken_or_refused() -> None:
    assert choose("poll", FANOTIFY, INOTIFY, POLL) == ("poll", ["capture poll: compares at an interval"])
    with pytest.raises(UsageError, match="needs root") as failed:
        choose("fanotify", FANOTIFY, INOTIFY)
    assert failed.value.code is Code.CAPTURE_UNFIT
    with pytest.raises(UsageError, match="no ebpf"):
        choose("ebpf", INOTIFY)


def test_another_platform_does_not_work_here() -> None:
    elsewhere = attrs.evolve(INOTIFY, platforms=("plan9",))
    assert probe(elsewhere, CaptureContext(roots=())) == Probe(False, "needs plan9")


def test_a_capture_without_a_probe_works() -> None:
    assert choose("auto", ScriptedCapture().spec("plain")) == ("plain", ["capture plain: needs nothing"])


def test_the_scan_works_wherever_directories_can_be_listed() -> None:
    assert choose("auto", SCAN)[0] == "scan"
    assert not probe(SCAN, CaptureContext(roots=(b"/nowhere/at all",))).works
