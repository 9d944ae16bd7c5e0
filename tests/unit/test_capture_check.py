"""The capture check must pass a capture that keeps the contract, and fail one that breaks it."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from i2core.api import Capture, CaptureContext, Change, DriverKind, DriverSpec, Lost, NoConfig, Op, Place, StopRule
from i2core.drivers.scan import SCAN, ScanCapture, ScanConfig, open_scan
from i2core.testing import capture as kit
from i2core.testing.capture import ScriptedCapture, check_capture

Batch = Sequence[Change | Lost]


def spec_of(say: Callable[[ScriptedCapture], None]) -> DriverSpec:
    """A driver that calls `say` every few milliseconds with a capture that it can script."""

    @asynccontextmanager
    async def open_it(config: NoConfig, context: CaptureContext) -> AsyncIterator[Capture]:
        capture = ScriptedCapture()

        async def speak() -> None:
            while True:
                say(capture)
                await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak)
            yield capture
            nursery.cancel_scope.cancel()

    return DriverSpec(kind=DriverKind.CAPTURE, name="spoken", summary="", open=open_it)


async def test_the_scan_capture_passes(tmp_path: Path) -> None:
    await check_capture(SCAN, {"interval": 0.02}, workdir=tmp_path)
    assert os.listdir(tmp_path) == []


async def test_a_scripted_capture_that_loses_everything_all_the_time_passes(tmp_path: Path) -> None:
    everything = [Lost(Place(root, b""), "who knows") for root in (0, 1)]
    await check_capture(spec_of(lambda capture: capture.tell(*everything)), workdir=tmp_path)


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        (Lost(Place(0, b""), "only the first root"), "chmod a root"),
        (Lost(Place(2, b""), "?"), "there is no root 2"),
        (Lost(Place(0, b""), ""), "without a reason"),
        (Change(Op.MODIFY, Place(0, b"a//b")), "relative"),
        (Change(Op.MODIFY, Place(0, b"/a")), "relative"),
        (Change(Op.MODIFY, Place(0, b"../outside")), "relative"),
        (Change(Op.MODIFY, Place(0, b"outside-1")), "outside of the roots"),
        (Change(Op.RENAME, Place(0, b"a")), "RENAME"),
        (Change(Op.CREATE, Place(0, b"a"), to=Place(0, b"b")), "RENAME"),
    ],
)
async def test_what_breaks_the_contract_fails(
    item: Change | Lost, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit, "WITHIN_S", 0.3)
    with pytest.raises((AssertionError, ExceptionGroup)) as caught:
        await check_capture(spec_of(lambda capture: capture.tell(item)), workdir=tmp_path)
    assert complaint in flat(caught.value)


async def test_a_capture_that_reports_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit, "WITHIN_S", 0.1)
    with pytest.raises((AssertionError, ExceptionGroup)) as caught:
        await check_capture(ScriptedCapture().spec(), workdir=tmp_path)
    assert "was not reported" in flat(caught.value)


async def test_a_scripted_capture_gives_its_batches_and_then_its_error() -> None:
    capture = ScriptedCapture()
    change, lost = Change(Op.CREATE, Place(0, b"a")), Lost(Place(0, b""), "why")
    capture.tell(change, lost)
    capture.tell(lost)
    capture.fail(StopRule("broken"))
    heard: list[Batch] = []
    with pytest.raises(StopRule):
        async for batch in capture.changes():
            heard.append(batch)
    assert heard == [(change, lost), (lost,)]


async def test_scan_reports_every_root_at_each_interval(autojump_clock: trio.testing.MockClock) -> None:
    context = CaptureContext(roots=(b"/a", b"/b"))
    async with open_scan(ScanConfig(interval=30), context) as capture:
        began = trio.current_time()
        times = []
        async for batch in capture.changes():
            assert batch == [Lost(Place(0, b""), "periodic scan"), Lost(Place(1, b""), "periodic scan")]
            times.append(trio.current_time() - began)
            if len(times) == 3:
                break
    assert times == [30, 60, 90]


async def test_scan_does_not_make_up_for_intervals_that_the_reader_missed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    capture = ScanCapture(1, 30)
    await trio.sleep(1000)
    began = trio.current_time()
    seen = []
    async for _ in capture.changes():
        seen.append(trio.current_time() - began)
        if len(seen) == 2:
            break
    assert seen == [0, 30]


def test_the_scan_probe_refuses_what_cannot_be_listed(tmp_path: Path) -> None:
    assert SCAN.probe is not None
    assert SCAN.probe(CaptureContext(roots=(bytes(tmp_path),))).works
    gone = SCAN.probe(CaptureContext(roots=(bytes(tmp_path / "missing"),)))
    assert not gone.works
    assert "missing" in gone.why


def flat(error: BaseException) -> str:
    """The messages of an error and of all that it groups."""
    parts = [flat(e) for e in error.exceptions] if isinstance(error, BaseExceptionGroup) else [str(error)]
    return " ".join(parts)
