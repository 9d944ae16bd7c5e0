"""Block compare: the pieces of a scan turn the old content into the new one; holes are not read, and no byte is
lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from i2core.api import BLOCK_BYTES, Kind, Place, Record
from i2core.api.blockmap import ZERO_DIGEST, BlockMap
from i2core.api.content import Extent, digests, extents, is_sparse
from i2core.posix.entries import entry_of
from i2core.posix.errnos import PASSING
from i2core.posix.file import LocalContent
from i2core.posix.tree import LocalTree
from i2core.rule.source import scan as scan_module
from i2core.rule.source.draft import Drafted, Large, draft
from i2core.rule.source.scan import Piece, Scan, scan

EVERYTHING = 1 << 62
PIECE_BYTES = BLOCK_BYTES + 1000
LIMITS = st.sampled_from([1, BLOCK_BYTES, 3 * BLOCK_BYTES, EVERYTHING])
SEGMENTS = st.lists(st.tuples(st.sampled_from("hzab"), st.integers(1, 6 * BLOCK_BYTES // 2)), max_size=6)


def hashes_of(content: bytes) -> bytes:
    """The naive digests."""
    cuts = range(0, len(content), BLOCK_BYTES)
    return b"".join(xxhash.xxh3_128_digest(content[at : at + BLOCK_BYTES]) for at in cuts)


def base_of(digests: bytes) -> BlockMap:
    """A map in which most zeros are a hole."""
    found = BlockMap()
    for at in range(0, len(digests), 16):
        if digests[at : at + 16] == ZERO_DIGEST and at % 3:
            found.add_zeros(1)
        else:
            found.add(digests[at : at + 16])
    return found


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
    monkeypatch.setattr(scan_module, "READ_BYTES", 2 * BLOCK_BYTES)
    monkeypatch.setattr(scan_module, "PIECE_BYTES", PIECE_BYTES)
    yield


@pytest.mark.usefixtures("small_reads")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=SEGMENTS, new=SEGMENTS, budget=LIMITS, most=LIMITS)
def test_pieces_make_the_new_content(
    tmp_path: Path, old: list[tuple[str, int]], new: list[tuple[str, int]], budget: int, most: int
) -> None:
    base = write(tmp_path / "old", old)
    content = write(tmp_path / "new", new)
    known = hashes_of(base)
    patched = bytearray(base)
    found = b""
    with (tmp_path / "new").open("rb") as file:
        at = 0
        while at < len(content):
            result = scan(
                LocalContent(file.fileno()), at, len(content), base_of(known[at // BLOCK_BYTES * 16 :]), budget, most
            )
            assert at < result.end <= len(content)
            assert result.end == len(content) or result.end % BLOCK_BYTES == 0
            for offset, length, data in result.pieces:
                assert at <= offset < offset + length <= result.end
                assert data is None or len(data) == length <= PIECE_BYTES
                patched += bytes(max(0, offset + length - len(patched)))
                patched[offset : offset + length] = bytes(length) if data is None else data
            assert not result.ended
            found += result.blocks.dense()
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
        found = scan(LocalContent(file.fileno()), 0, len(content), base_of(hashes_of(content)), EVERYTHING)
    assert found.pieces == []
    assert found.end == len(content)


def scan_file(path: Path, base: bytes, *, end: int | None = None) -> Scan:
    """A whole file against the digests of `base`."""
    with path.open("rb") as file:
        return scan(
            LocalContent(file.fileno()), 0, path.stat().st_size if end is None else end, base_of(hashes_of(base))
        )


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
    """Also within one read, and holes smaller than a block: an image with a little data everywhere must not be filled
    up."""
    path, island = tmp_path / "file", os.urandom(4096)
    with path.open("wb") as file:
        for at in range(0, 4 * 1024 * 1024, 512 * 1024):
            os.pwrite(file.fileno(), island, at)
        file.truncate(4 * 1024 * 1024)
    found = scan_file(path, b"")
    data = [(piece.offset, bytes(piece.data)) for piece in found.pieces if piece.data is not None]
    assert data == [(at, island) for at in range(0, 4 * 1024 * 1024, 512 * 1024)]
    assert sum(piece.length for piece in found.pieces) == 4 * 1024 * 1024


def test_a_file_that_is_truncated_during_a_compare_gives_all_that_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, content = tmp_path / "file", os.urandom(8 * BLOCK_BYTES)
    path.write_bytes(content)
    real = LocalContent.read

    def cut_behind(content: LocalContent, start: int, length: int) -> memoryview:
        view = real(content, start, length)
        os.truncate(path, BLOCK_BYTES)
        return view

    monkeypatch.setattr(LocalContent, "read", cut_behind)
    found = scan_file(path, b"")
    assert b"".join(bytes(piece.data or b"") for piece in found.pieces) == content


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * (BLOCK_BYTES + 5))
    found = scan_file(tmp_path / "file", b"", end=4 * BLOCK_BYTES)
    assert (found.end, found.ended) == (BLOCK_BYTES + 5, True)


def test_terabytes_of_hole_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 1 << 40)
    with path.open("rb") as file:
        assert list(extents(LocalContent(file.fileno()), 0, 1 << 40)) == [Extent(0, 1 << 40, False)]
        found = scan(LocalContent(file.fileno()), (1 << 40) - BLOCK_BYTES, 1 << 40, BlockMap())
        assert [(piece.offset, piece.data) for piece in found.pieces] == [((1 << 40) - BLOCK_BYTES, None)]
        with path.open("rb+") as writer:
            os.pwrite(writer.fileno(), b"data", 1 << 39)
        before = BlockMap()
        before.add_zeros(1 << 24)
        found = scan(LocalContent(file.fileno()), 0, 1 << 40, before)
    data, rest = found.pieces
    assert (data.offset, bytes(data.data or b"")[:4]) == (1 << 39, b"data")
    assert (rest.offset + rest.length, rest.data) == ((1 << 39) + BLOCK_BYTES, None)
    assert found.blocks.data_blocks == 1
    assert found.end == 1 << 40


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(segments=SEGMENTS)
def test_extents_cover_the_range(tmp_path: Path, segments: list[tuple[str, int]]) -> None:
    content = write(tmp_path / "file", segments)
    with (tmp_path / "file").open("rb") as file:
        found = list(extents(LocalContent(file.fileno()), 0, len(content)))
    assert [extent.start for extent in found[1:]] == [extent.end for extent in found[:-1]]
    assert not found or (found[0].start, found[-1].end) == (0, len(content))
    for start, end, data in found:
        assert data or not any(content[start:end])


@contextmanager
def seeks_fail(error: int) -> Iterator[None]:
    """Every question for holes ends with that error."""

    def lseek(fd: int, offset: int, whence: int) -> int:
        raise OSError(error, os.strerror(error))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "lseek", lseek)
        yield


def drafted(path: Path) -> Drafted | Large:
    tree = LocalTree(os.fsencode(path.parent))
    try:
        entry = entry_of(os.fsencode(path.name), path.stat())
        with tree.directory(b"") as directory:
            return draft(directory, Place(0, entry.name), entry, lambda place, opened: None)
    finally:
        tree.close()


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_seek_support_has_no_holes(tmp_path: Path, error: int) -> None:
    path = tmp_path / "file"
    written = write(path, [("a", 5), ("h", 4 * BLOCK_BYTES), ("b", 1)])
    size = len(written)
    with path.open("rb") as file, seeks_fail(error):
        content, entry = LocalContent(file.fileno()), entry_of(b"file", path.stat())
        assert list(extents(content, 0, size)) == [Extent(0, size, True)]
        assert list(extents(content, 7, size + 9)) == [Extent(7, size, True), Extent(size, size + 9, False)]
        assert content.next_data(size) is None
        assert content.next_hole(size) is None
        assert not is_sparse(content, entry)
        found = scan(content, 0, size, BlockMap())
        assert b"".join(bytes(piece.data or b"") for piece in found.pieces) == written
        whole = drafted(path)
    assert isinstance(whole, Drafted)
    assert whole.records[0].data == written


@pytest.mark.parametrize("error", [*PASSING, errno.EIO])
def test_a_failed_search_for_holes_fills_no_hole(tmp_path: Path, error: int) -> None:
    """It is a failed read. If everything counted as data, the replica would get a file without holes for good, since
    blocks of zeros and holes compare equal."""
    path = tmp_path / "file"
    size = len(write(path, [("a", 5), ("h", 4 * BLOCK_BYTES), ("b", 1)]))
    with path.open("rb") as file, seeks_fail(error):
        content, entry = LocalContent(file.fileno()), entry_of(b"file", path.stat())
        asks: list[Callable[[], object]] = [
            lambda: list(extents(content, 0, size)),
            lambda: scan(content, 0, size, BlockMap()),
            lambda: is_sparse(content, entry),
            lambda: drafted(path),
        ]
        for ask in asks:
            with pytest.raises(OSError, match=os.strerror(error)) as raised:
                ask()
            assert raised.value.errno == error


@pytest.mark.parametrize("nth", range(1, 12))
def test_a_search_for_holes_that_fails_once_fills_no_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """Whichever query fails: after another read the file has its holes."""
    path = tmp_path / "file"
    write(path, [("a", 5), ("h", 4 * BLOCK_BYTES), ("b", 1), ("h", 3 * BLOCK_BYTES)])
    seek, left = os.lseek, nth

    def lseek(fd: int, offset: int, whence: int) -> int:
        nonlocal left
        left -= 1
        if not left:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return seek(fd, offset, whence)

    def data_bytes(ask: Callable[[], Sequence[Record | Piece]]) -> int:
        try:
            found = ask()
        except OSError as error:
            assert error.errno == errno.ENOMEM
            found = ask()
        return sum(len(each.data or b"") for each in found)

    def records() -> Sequence[Record]:
        found = drafted(path)
        assert isinstance(found, Drafted)
        return found.records

    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        monkeypatch.setattr(os, "lseek", lseek)
        assert data_bytes(lambda: scan(LocalContent(file.fileno()), 0, size, BlockMap()).pieces) < 2 * BLOCK_BYTES
        left = nth
        assert data_bytes(records) < 2 * BLOCK_BYTES


def test_digests_and_ranges(tmp_path: Path) -> None:
    content = os.urandom(2 * BLOCK_BYTES + 1)
    assert b"".join(digests(memoryview(content))) == hashes_of(content)
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file:
        read = LocalContent(file.fileno()).read
        assert bytes(read(5, 10)) == content[5:15]
        assert bytes(read(len(content) - 3, 10)) == content[-3:]
        assert bytes(read(len(content) + 3, 10)) == b""


@pytest.fixture
def cut_at_hole(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The search for the end of data finds that the file was emptied a moment ago."""
    seek = os.lseek

    def lseek(fd: int, at: int, whence: int) -> int:
        if whence == os.SEEK_HOLE:
            os.truncate(f"/proc/self/fd/{fd}", 0)
        return seek(fd, at, whence)

    monkeypatch.setattr(os, "lseek", lseek)
    yield


@pytest.mark.usefixtures("cut_at_hole")
def test_a_file_that_becomes_shorter_during_a_read_is_not_an_error(tmp_path: Path) -> None:
    size = 8 * BLOCK_BYTES

    def fresh() -> BinaryIO:
        write(tmp_path / "file", [("h", 2 * BLOCK_BYTES), ("a", BLOCK_BYTES), ("h", size - 3 * BLOCK_BYTES)])
        return (tmp_path / "file").open("rb")

    with fresh() as file:
        assert list(extents(LocalContent(file.fileno()), 0, size)) == [Extent(0, 2 * BLOCK_BYTES, False)]
    with fresh() as file:
        assert scan(LocalContent(file.fileno()), 0, size, BlockMap()).end <= size
    with fresh() as file:
        assert not is_sparse(LocalContent(file.fileno()), entry_of(b"file", os.fstat(file.fileno())))
    fresh().close()
    found = drafted(tmp_path / "file")
    assert isinstance(found, Drafted)
    assert found.records[-1].kind in (Kind.CREATE, Kind.PUBLISH)
