"""Reads a whole journal and tells every place where it is not what was written (`i2 cdp verify`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from i2core.api.journal import Fault, FaultKind, Journal, Tip, find_faults
from i2core.config.words import Bilingual, Words, bilingual

_KINDS = {
    FaultKind.DAMAGED: Words("the bytes are not those that were written", "内容与写入时不同"),
    FaultKind.MISSING: Words("frames are missing here", "此处缺少帧"),
    FaultKind.ORDER: Words("a frame that does not belong here", "此处的帧不属于这里"),
    FaultKind.CUT: Words("the end is missing: later frames were known", "结尾缺失：曾经有更新的帧"),
    FaultKind.UNSEALED: Words("a merged segment that the chain does not name", "链中没有记录此合并段"),
}


class Progress(NamedTuple):
    """How far a verification is."""

    done_bytes: int
    all_bytes: int


async def verify(
    journal: Journal,
    kept: Iterable[Tip] = (),
    report: Callable[[Progress], None] = lambda progress: None,
    pace: Callable[[int], Awaitable[None]] | None = None,
) -> list[Fault]:
    """All faults, oldest place first. `kept`: tips that were handed out, here or to the work node.

    `pace`: awaited after each segment, with its bytes.

    Frames are appended and segments merged meanwhile; what was there at the call is verified. May be cancelled at any
    time.

    Raises:
        StopRule: the disk fails.
    """
    tips = list(kept)
    numbers = [tip.number for tip in tips]
    segments = journal.segments
    everything = sum(segment.size_bytes for segment in segments)
    found, done = [], 0
    async with journal.lease([segment.number for segment in segments]):
        for segment in segments:
            report(Progress(done, everything))
            found.append(await journal.inspect(segment.number, numbers))
            done += segment.size_bytes
            if pace is not None:
                await pace(segment.size_bytes)
    report(Progress(everything, everything))
    return find_faults(segments, found, tips)


def fault_text(fault: Fault) -> Bilingual:
    """A fault for people."""
    kind = _KINDS[fault.kind]
    segment, offset = fault.at
    seq = fault.next_seq
    return bilingual(
        f"segment {segment}, byte {offset}, frame {fault.frame}: {kind.en}; all records below {seq} are proved",
        f"段 {segment}，字节 {offset}，帧 {fault.frame}：{kind.zh}；序号小于 {seq} 的记录均已验证",
    )
