"""One connection can make a backup node use less than 64 MiB of memory and a bounded number of descriptors, whatever it
sends.

Each case sends as much of one thing as the limits let through, and more; together they send every message. The bytes
are made before anything is measured, so that what is measured is the node's.
"""

from __future__ import annotations

import os
import struct
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import repeat
from pathlib import Path

import pytest
import pyzstd
import trio

from i2core.api import BLOCK_BYTES, Channel, Entry, Kind, Meta, Record
from i2core.config.model import BackupRole
from i2core.registry import Registry
from i2core.rule.backup.entry.greeting import GREETING_BYTES
from i2core.rule.backup.service import BackupService
from i2core.wire.encoding import PAIRS_LIMIT, RECORDS_LIMIT, encode_records
from i2core.wire.frame import FRAME_LIMIT, FrameType
from i2core.wire.listing import INLINE_BLOCKS, SURVEY_LIMIT, Chunk, encode_survey
from i2core.wire.messages import BrakeLimits, CodecName, Hello, OrphanPolicy, dump
from i2core.wire.questions import HashQuery, NamesQuery, OrphanList, most_orphans

LIMIT_BYTES = 64 << 20
DESCRIPTORS = 60
"""Of one session: trio's own, its files, and the directories of the batch or the answer that it is at."""
WITHIN_S = 120.0
HEADER = struct.Struct("<IBBHQ")
Frames = Iterable[tuple[FrameType, int, bytes]]
"""Type, seq, payload."""


class Made(trio.abc.Stream):
    """A peer that sends frames as fast as they are read, and reads all answers."""

    def __init__(self, frames: Frames) -> None:
        self._parts = (
            part for kind, seq, payload in frames for part in (HEADER.pack(len(payload), kind, 0, 1, seq), payload)
        )
        self._left = memoryview(b"")
        self.most_open = 0
        """Descriptors of this process, whenever it was answered."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self._left:
            part = next(self._parts, None)
            if part is None:
                return b""
            self._left = memoryview(part)
        some, self._left = bytes(self._left[:max_bytes]), self._left[max_bytes:]
        return some

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.most_open = max(self.most_open, len(os.listdir("/proc/self/fd")))
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def entry(name: bytes, mode: int = 0o100644) -> Entry:
    return Entry(name, mode, 70_000, 70_001, 1 << 40, 1 << 60, nlink=1, xattrs=1 << 60)


def small_names(count: int) -> list[bytes]:
    return [b"%05x" % number for number in range(count)]


def batches() -> Frames:
    """As many of the smallest records as possible."""
    meta = Meta(0, 0, 0, 1 << 60)
    one = encode_records([Record(Kind.SETATTR, 0, name, meta=meta) for name in small_names(RECORDS_LIMIT)])
    for turn in range(4):
        yield FrameType.BATCH, 1 + turn * RECORDS_LIMIT, one


def too_many_records() -> Frames:
    head = struct.pack("<BBHHHIIQQ", Kind.MKDIR, 0, 0, 1, 0, 0, 0, 0, 0) + b"a"
    count = (FRAME_LIMIT - 4) // len(head)
    yield FrameType.BATCH, 1, struct.pack("<I", count) + head * count


def attributes() -> Frames:
    pairs = tuple((b"%04x" % number, b"") for number in range(PAIRS_LIMIT))
    for seq, xattrs in ((1, pairs), (2, (*pairs, *pairs))):
        meta = Meta(0o100644, 0, 0, 0, xattrs)
        yield FrameType.BATCH, seq, encode_records([Record(Kind.SETATTR, 0, b"a", meta=meta)])


def entries() -> Frames:
    """A directory whose listing never ends."""
    listed = [entry(name) for name in small_names(SURVEY_LIMIT - 1)]
    here = entry(b"", 0o40755)
    yield FrameType.SURVEY, 0, encode_survey([Chunk(0, b"", here, True, False, False, listed)])
    more = encode_survey([Chunk(0, b"", here, False, False, False, listed)])
    yield from repeat((FrameType.SURVEY, 0, more), 8)


def directories() -> Frames:
    here = entry(b"", 0o40755)
    chunks = [Chunk(0, name, here, True, True, True, []) for name in small_names(SURVEY_LIMIT)]
    yield from repeat((FrameType.SURVEY, 0, encode_survey(chunks)), 3)


def nothing_but_ends() -> Frames:
    here = entry(b"", 0o40755)
    survey = encode_survey([Chunk(0, b"", here, True, True, False, [entry(b"\0" * 60_000)])])
    yield FrameType.SURVEY, 0, survey


def orphans() -> Frames:
    for path in (b"", b"p" * 60_000):
        yield FrameType.ORPHANS, 0, OrphanList(0, path, small_names(most_orphans(path))).encode()
    yield FrameType.ORPHANS, 0, OrphanList(0, b"", small_names(500_000)).encode()


def longest_frames() -> Frames:
    """The longest frames one after the other: they would pile up if they were read faster than they are handled."""
    whole = Record(Kind.CREATE, 0, b"a", meta=Meta(0o100644, 0, 0, 0), size=7 << 20, data=bytes(7 << 20))
    yield FrameType.BATCH, 1, encode_records([whole])
    for turn in range(20):
        record = Record(Kind.WRITE, 0, b"a", offset=turn << 23, data=bytes(7 << 20))
        yield FrameType.BATCH, 2 + turn, encode_records([record])


def queries() -> Frames:
    """Queries about a file of eight terabytes with scattered data."""
    size = (1 << 43) - 1
    made = [Record(Kind.CREATE, 0, b"a"), Record(Kind.TRUNCATE, 0, b"a", size=size)]
    made += [Record(Kind.WRITE, 0, b"a", offset=n << 20, data=b"x") for n in range(3000)]
    yield FrameType.BATCH, 1, encode_records(made)
    for runs in (False, True):
        query = HashQuery(0, b"a", 0, 65536, False, runs).encode()
        yield from repeat((FrameType.HASHES, 0, query), 10)


def unending_names() -> Frames:
    """Requests for names of directories, none of which is finished."""
    yield FrameType.BATCH, 1, encode_records([Record(Kind.MKDIR, 0, name) for name in small_names(500)])
    for turn, name in enumerate(small_names(500)):
        yield FrameType.BATCH, 501 + turn, encode_records([Record(Kind.CREATE, 0, name + b"/file")])
        yield FrameType.NAMES, 0, NamesQuery(0, name, True).encode()


def one_directory_again_and_again() -> Frames:
    """Two megabytes of names, reported for each chunk that lists their directory as empty."""
    here = entry(b"", 0o40755)
    for turn in range(2):
        made = [Record(Kind.CREATE, 0, b"%05d" % (turn * 4000 + n) + b"n" * 245) for n in range(4000)]
        yield FrameType.BATCH, 1 + turn * 4000, encode_records(made)
    yield FrameType.SURVEY, 0, encode_survey([Chunk(0, b"", here, True, True, False, [])] * 100)
    yield FrameType.SURVEY, 0, encode_survey([Chunk(0, b"", here, True, False, False, [])] * 30)
    yield from repeat((FrameType.NAMES, 0, NamesQuery(0, b"", True).encode()), 20)


def failures() -> Frames:
    """As many failures as records, each with a path that becomes long as JSON."""
    path = b"/".join([b"\xff" * 250] * 3)
    made = [Record(Kind.WRITE, 0, path + b"/%d" % n, data=b"x") for n in range(RECORDS_LIMIT - 100)]
    for turn in range(2):
        yield FrameType.BATCH, 1 + turn * len(made), encode_records(made)


def links() -> Frames:
    listed = [entry(name) for name in small_names(100)]
    chunk = Chunk(0, b"", entry(b"", 0o40755), True, True, True, listed, dict.fromkeys(range(100), b"p" * 65000))
    yield from repeat((FrameType.SURVEY, 0, encode_survey([chunk])), 5)


def digests_inline() -> Frames:
    """A thousand files of sixteen blocks each, compared block by block."""
    size = INLINE_BLOCKS * BLOCK_BYTES
    names = small_names(1000)
    yield FrameType.BATCH, 1, encode_records([Record(Kind.CREATE, 0, name) for name in names])
    grown = [Record(Kind.TRUNCATE, 0, name, size=size) for name in names]
    yield FrameType.BATCH, 1001, encode_records(grown)
    listed = [entry(name)._replace(size=size) for name in names]
    yield FrameType.SURVEY, 0, encode_survey([Chunk(0, b"", entry(b"", 0o40755), True, True, True, listed)])


def small_frames() -> Frames:
    for kind in (FrameType.FLUSH, FrameType.PING):
        yield from repeat((kind, 0, b""), 3000)


def not_for_this_side(kind: FrameType) -> Callable[[], Frames]:
    """Frames that no work node sends."""

    def frames() -> Frames:
        yield kind, 0, bytes(FRAME_LIMIT)

    frames.__name__ = kind.name
    return frames


STRANGE = [
    not_for_this_side(kind)
    for kind in FrameType
    if kind
    not in (
        FrameType.BATCH,
        FrameType.SURVEY,
        FrameType.HASHES,
        FrameType.NAMES,
        FrameType.ORPHANS,
        FrameType.FLUSH,
        FrameType.PING,
    )
]


def bombs() -> Frames:
    """Kilobytes that expand to gigabytes if nothing limits them."""
    yield FrameType.BATCH, 1, pyzstd.compress(bytes(1 << 30))


CASES = [
    batches,
    too_many_records,
    attributes,
    entries,
    directories,
    nothing_but_ends,
    pytest.param(orphans, marks=pytest.mark.slow),
    longest_frames,
    queries,
    unending_names,
    one_directory_again_and_again,
    failures,
    links,
    digests_inline,
    small_frames,
    *STRANGE,
]


def greeting(target: Path, codecs: list[CodecName]) -> bytes:
    return dump(
        Hello(
            version="0",
            rule="hostile",
            channel="mirror",
            epoch=1,
            targets=[str(target)],
            codecs=codecs,
            orphans=OrphanPolicy(action="delete"),
            brake=BrakeLimits(share=1, window_s=60, least=1, on=False),
        )
    )


def peak_bytes(tmp_path: Path, frames: Frames, hello: bytes) -> int:
    """The peak memory of the node while it served these."""
    sent = [(FrameType.HELLO, 0, hello), *frames]
    service = BackupService(
        BackupRole(allow_roots=(os.fsencode(tmp_path),)),
        registry=Registry.load(),
        state_dir=tmp_path / "state",
        say=lambda rule, code, line: None,
    )

    peer = Made(sent)

    async def main() -> None:
        with trio.fail_after(WITHIN_S):
            await service.handle(peer, Channel.MIRROR, "peer")

    before = len(os.listdir("/proc/self/fd"))
    tracemalloc.start()
    try:
        trio.run(main)
        assert peer.most_open - before < DESCRIPTORS
        assert len(os.listdir("/proc/self/fd")) <= before
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("frames", CASES, ids=lambda case: case.__name__)
def test_bounded(tmp_path: Path, frames: Callable[[], Frames]) -> None:
    target = tmp_path / "target"
    target.mkdir()
    assert peak_bytes(tmp_path, frames(), greeting(target, [])) < LIMIT_BYTES


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    codecs = [CodecName(name="zstd", options={"level": "low"})]
    assert peak_bytes(tmp_path, bombs(), greeting(target, codecs)) < LIMIT_BYTES


@pytest.mark.parametrize("nested", [b"[" * 1000 + b"]" * 1000, b"[],", b'{"a":1},'])
def test_a_greeting_that_swells(tmp_path: Path, nested: bytes) -> None:
    for size in (GREETING_BYTES, FRAME_LIMIT):
        hello = b'{"protocol": [' + nested * ((size - 30) // len(nested)) + b"1]}"
        assert peak_bytes(tmp_path, [], hello) < LIMIT_BYTES
