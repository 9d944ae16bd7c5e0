"""docs/wire-format.md is the reference: its dumps equal the output of the code, its tables have every type and
number."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
import trio
from trio.testing import memory_stream_pair

from i2core.api import BLOCK_BYTES, Entry, Kind, Meta, Record
from i2core.config.model import FlushWindow
from i2core.rule.backup.session import durability
from i2core.wire import keep_alive, session, window
from i2core.wire.encoding import decode_records, encode_records
from i2core.wire.frame import FRAME_LIMIT, Frame, FrameStream, FrameType, aad
from i2core.wire.listing import (
    INLINE_BLOCKS,
    Chunk,
    ChunkVerdicts,
    Verdict,
    decode_survey,
    decode_verdicts,
    encode_survey,
    encode_verdicts,
)
from i2core.wire.message_size import PIECE_BYTES
from i2core.wire.messages import PROTOCOL_VERSION
from i2core.wire.questions import HashQuery

FLUSH = FlushWindow()
TEXT = (Path(__file__).resolve().parents[2] / "docs" / "wire-format.md").read_text()
DUMPS = {name: bytes.fromhex(dump) for name, dump in re.findall(r"```hex (\w+)\n(.*?)```", TEXT, re.DOTALL)}
TIME_NS = 1_700_000_000 * 10**9
RECORDS = [
    Record(Kind.MKDIR, 0, b"dir", meta=Meta(stat.S_IFDIR | 0o755, 1000, 1000, TIME_NS)),
    Record(
        Kind.CREATE,
        0,
        b"dir/f",
        meta=Meta(stat.S_IFREG | 0o644, 1000, 1000, TIME_NS, ((b"user.k", b"v"),)),
        data=b"hi",
    ),
]
ROOT = Entry(b"", stat.S_IFDIR | 0o755, 0, 0, 4096, TIME_NS, 2)
FILE = Entry(b"f", stat.S_IFREG | 0o644, 0, 0, 2, TIME_NS, 1)
CHUNKS = [Chunk(0, b"", ROOT, True, True, False, [FILE])]
JUDGED = [ChunkVerdicts(Verdict.SAME, b"\0", {}, [])]
QUERY = HashQuery(0, b"disk.img", 512, 512)
FRAMES = {
    "ping": Frame(FrameType.PING, 0, 0, b""),
    "batch": Frame(FrameType.BATCH, 0, 7, encode_records(RECORDS)),
    "hashes": Frame(FrameType.HASHES, 1, 0, QUERY.encode()),
    "survey": Frame(FrameType.SURVEY, 2, 0, encode_survey(CHUNKS)),
    "verdicts": Frame(FrameType.VERDICTS, 2, 0, encode_verdicts(JUDGED)),
}


def frame_of(raw: bytes) -> Frame | None:
    """The only frame in these bytes."""

    async def main() -> Frame | None:
        near, far = memory_stream_pair()
        await near.send_all(raw)
        await near.aclose()
        frames = FrameStream(far)
        found = await frames.receive()
        assert await frames.receive() is None
        return found

    return trio.run(main)


def test_every_dump_is_known() -> None:
    assert DUMPS.keys() == FRAMES.keys()


@pytest.mark.parametrize("name", FRAMES)
def test_dumps_are_the_frames_that_the_text_describes(name: str) -> None:
    assert frame_of(DUMPS[name]) == FRAMES[name]


def test_dumps_decode() -> None:
    payload = DUMPS["batch"][16:]
    assert [record._replace(data=bytes(record.data)) for record in decode_records(payload)] == RECORDS
    (shown,) = decode_survey(DUMPS["survey"][16:])
    assert (shown.path, shown.names, shown.listed(0)) == (b"", [b"f"], (FILE, None))
    assert not shown.differing([FILE], owners=True)
    assert decode_verdicts(DUMPS["verdicts"][16:]) == JUDGED
    assert HashQuery.decode(DUMPS["hashes"][16:]) == QUERY


def test_bound_data_has_the_size_that_the_text_says() -> None:
    assert len(aad(FrameType.BATCH, 1, 2)) == 11
    assert aad(FrameType.BATCH, 0x0201, 3) == b"\4\1\2\3" + bytes(7)


@pytest.mark.parametrize("codes", [FrameType, Kind], ids=["frames", "records"])
def test_tables_hold_every_code(codes: type[FrameType] | type[Kind]) -> None:
    rows = {(name, int(number)) for name, number in re.findall(r"^\| ([A-Z]+) \| (\d+) \|", TEXT, re.MULTILINE)}
    assert {(code.name, int(code)) for code in codes} <= rows
    assert len(rows) == len(FrameType) + len(Kind)


@pytest.mark.parametrize(
    "words",
    [
        f"protocol version is **{PROTOCOL_VERSION}**",
        f"at most {FRAME_LIMIT:,}".replace(",", " "),
        f"A block is {BLOCK_BYTES:,} bytes".replace(",", " "),
        f"| {PIECE_BYTES:,} bytes |".replace(",", " "),
        f"At most {window.WINDOW_BYTES >> 20} MiB of encoded batches",
        f"every {keep_alive.PING_S:.0f} seconds",
        f"nothing for {keep_alive.SILENCE_S:.0f} seconds",
        f"may take {session.GREETING_S:.0f} seconds",
        f"at most {INLINE_BLOCKS} blocks",
        f"after {FLUSH.after_s} s of replication, {durability.MIRROR_WINDOW.after_s:.0f} s of a mirror",
        f"{FLUSH.size >> 20} MiB or {durability.MIRROR_WINDOW.size >> 20} MiB of batches",
        *(f"{int(verdict)} {verdict.name}" for verdict in Verdict if verdict.name and int(verdict)),
    ],
)
def test_numbers_are_those_of_the_code(words: str) -> None:
    assert " ".join(words.split()) in " ".join(TEXT.split())
