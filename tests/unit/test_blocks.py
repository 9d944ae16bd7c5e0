"""Block compare: what a scan finds turns the old content into the new, reads no holes, and never loses a byte."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from i2core.api import BLOCK_BYTES
from i2core.pipeline import blocks
from i2core.pipeline.blocks import Extent, digests, extents, read_range, scan, split

EVERYTHING = 1 << 62
SEGMENTS = st.lists(st.tuples(st.sampled_from("hzab"), st.integers(1, 6 * BLOCK_BYTES // 2)), max_size=6)


def hashes_of(content: bytes) -> bytes:
    """The naive digests."""
    cuts = range(0, len(content), BLOCK_BYTES)
    return b"".join(xxhash.xxh3_128_digest(content[at : at + BLOCK_BYTES]) for at in cuts)


def write(path: Path, segments: list[tuple[str, int]]) -> bytes:
    """A file of holes, written zeros and two kinds of data; gives its content."""
    with path.open("wb") as file:
        for kind, length in segments:
            if kind == "h":
                file.seek(length, os.SEEK_CUR)
            else:
                file.write({"z": b"\0", "a": b"a", "b": b"b"}[kind] * length)
        file.truncate()
    return path.read_bytes()


@pytest.fixture
def small_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Many reads and pieces in small files."""
    monkeypatch.setattr(blocks, "READ_BYTES", 2 * BLOCK_BYTES)
    monkeypatch.setattr(blocks, "PIECE_BYTES", BLOCK_BYTES + 1000)
    yield


@pytest.mark.usefixtures("small_reads")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=SEGMENTS, new=SEGMENTS, budget=st.sampled_from([1, BLOCK_BYTES, 3 * BLOCK_BYTES, EVERYTHING]))
def test_pieces_make_the_new_content(
    tmp_path: Path, old: list[tuple[str, int]], new: list[tuple[str, int]], budget: int
) -> None:
    base = write(tmp_path / "old", old)
    content = write(tmp_path / "new", new)
    known = hashes_of(base)
    patched = bytearray(base)
    found = b""
    with (tmp_path / "new").open("rb") as file:
        at = 0
        while at < len(content):
            result = scan(file.fileno(), at, len(content), known[at // BLOCK_BYTES * 16 :], budget)
            assert at < result.end <= len(content)
            assert result.end == len(content) or result.end % BLOCK_BYTES == 0
            for offset, length, data in result.pieces:
                assert at <= offset < offset + length <= result.end
                assert data is None or len(data) == length <= blocks.PIECE_BYTES
                patched += bytes(max(0, offset + length - len(patched)))
                patched[offset : offset + length] = bytes(length) if data is None else data
            found += result.hashes
            at = result.end
    del patched[len(content) :]
    assert bytes(patched) == content
    assert found == hashes_of(content)


@pytest.mark.usefixtures("small_reads")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(segments=SEGMENTS)
def test_equal_content_gives_no_pieces(tmp_path: Path, segments: list[tuple[str, int]]) -> None:
    """Holes and written zeros compare equal."""
    content = write(tmp_path / "file", segments)
    with (tmp_path / "file").open("rb") as file:
        found = scan(file.fileno(), 0, len(content), hashes_of(content), EVERYTHING)
    assert found.pieces == []
    assert found.end == len(content)


def scan_file(path: Path, base: bytes, *, end: int | None = None) -> blocks.Scan:
    """A whole file against the digests of `base`."""
    with path.open("rb") as file:
        return scan(file.fileno(), 0, path.stat().st_size if end is None else end, hashes_of(base), EVERYTHING)


def test_only_the_blocks_that_differ(tmp_path: Path) -> None:
    base = os.urandom(10 * BLOCK_BYTES)
    changed = bytearray(base)
    for block in (0, 4, 5, 9):
        changed[block * BLOCK_BYTES + 7] ^= 1
    (tmp_path / "file").write_bytes(changed)
    found = scan_file(tmp_path / "file", base)
    assert [(p.offset // BLOCK_BYTES, p.length // BLOCK_BYTES) for p in found.pieces] == [(0, 1), (4, 2), (9, 1)]


@pytest.mark.parametrize("change", [-1, 1, BLOCK_BYTES, -BLOCK_BYTES])
def test_growth_and_shrink_touch_the_last_block_alone(tmp_path: Path, change: int) -> None:
    base = os.urandom(3 * BLOCK_BYTES + 100)
    content = base[:change] if change < 0 else base + os.urandom(change)
    (tmp_path / "file").write_bytes(content)
    found = scan_file(tmp_path / "file", base)
    assert all(piece.offset >= 2 * BLOCK_BYTES for piece in found.pieces)
    assert sum(piece.length for piece in found.pieces) <= 2 * BLOCK_BYTES + 100


def test_a_hole_that_became_of_data_is_a_piece_without_data(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    os.truncate(tmp_path / "file", 4 * BLOCK_BYTES)
    found = scan_file(tmp_path / "file", os.urandom(4 * BLOCK_BYTES))
    assert [piece.data for piece in found.pieces] == [None]
    assert sum(piece.length for piece in found.pieces) == 4 * BLOCK_BYTES


def test_holes_between_data_stay_holes(tmp_path: Path) -> None:
    """Also within one read, and smaller than a block: an image with a little data everywhere must not fill up."""
    path, island = tmp_path / "file", os.urandom(4096)
    with path.open("wb") as file:
        for at in range(0, 4 * 1024 * 1024, 512 * 1024):
            os.pwrite(file.fileno(), island, at)
        file.truncate(4 * 1024 * 1024)
    found = scan_file(path, b"")
    data = [(piece.offset, bytes(piece.data)) for piece in found.pieces if piece.data is not None]
    assert data == [(at, island) for at in range(0, 4 * 1024 * 1024, 512 * 1024)]
    assert sum(piece.length for piece in found.pieces) == 4 * 1024 * 1024


def test_a_file_that_is_cut_while_it_is_compared_tells_all_that_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, content = tmp_path / "file", os.urandom(8 * BLOCK_BYTES)
    path.write_bytes(content)
    real = blocks.read_range

    def cut_behind(fd: int, start: int, length: int) -> memoryview:
        view = real(fd, start, length)
        os.truncate(path, BLOCK_BYTES)
        return view

    monkeypatch.setattr(blocks, "read_range", cut_behind)
    found = scan_file(path, b"")
    assert b"".join(bytes(piece.data or b"") for piece in found.pieces) == content


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * (BLOCK_BYTES + 5))
    assert scan_file(tmp_path / "file", b"", end=4 * BLOCK_BYTES).end == BLOCK_BYTES + 5


def test_terabytes_of_hole_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 1 << 40)
    with path.open("rb") as file:
        assert list(extents(file.fileno(), 0, 1 << 40)) == [Extent(0, 1 << 40, False)]
        found = scan(file.fileno(), (1 << 40) - BLOCK_BYTES, 1 << 40, b"", EVERYTHING)
    assert [(piece.offset, piece.data) for piece in found.pieces] == [((1 << 40) - BLOCK_BYTES, None)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(segments=SEGMENTS)
def test_extents_cover_the_range(tmp_path: Path, segments: list[tuple[str, int]]) -> None:
    content = write(tmp_path / "file", segments)
    with (tmp_path / "file").open("rb") as file:
        found = list(extents(file.fileno(), 0, len(content)))
    assert [extent.start for extent in found[1:]] == [extent.end for extent in found[:-1]]
    assert not found or (found[0].start, found[-1].end) == (0, len(content))
    for start, end, data in found:
        assert data or not any(content[start:end])


def test_a_file_system_that_cannot_tell_gives_one_extent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lseek(fd: int, offset: int, whence: int) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    (tmp_path / "file").write_bytes(b"x")
    with (tmp_path / "file").open("rb") as file:
        monkeypatch.setattr(os, "lseek", lseek)
        assert list(extents(file.fileno(), 0, 1)) == [Extent(0, 1, True)]


def test_digests_and_ranges(tmp_path: Path) -> None:
    content = os.urandom(2 * BLOCK_BYTES + 1)
    assert b"".join(digests(memoryview(content))) == hashes_of(content)
    assert split(hashes_of(content)) == digests(memoryview(content))
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file:
        assert bytes(read_range(file.fileno(), 5, 10)) == content[5:15]
        assert bytes(read_range(file.fileno(), len(content) - 3, 10)) == content[-3:]
        assert bytes(read_range(file.fileno(), len(content) + 3, 10)) == b""
