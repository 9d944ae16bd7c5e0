"""What an entry of the source needs on the replica: every branch of the decision, above all hard links."""

from __future__ import annotations

import stat

import pytest

from i2core.api import BLOCK_BYTES, Entry
from i2core.api.drivers import Times
from i2core.rule.backup.session.compare import Comparison, is_guarded, same_meta
from i2core.wire.listing import Listed, Verdict

FILE, DIR, LINK, FIFO, CHR = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR
BIG = 5 * BLOCK_BYTES


def entry(mode: int = FILE | 0o644, *, size: int = 10, mtime: int = 5, **more: int | bytes) -> Entry:
    """An entry of either side."""
    made = Entry(b"name", mode, 1, 2, size, mtime)
    return made._replace(**more)  # type: ignore[arg-type]


def judge(source: Entry, there: Entry | None, *, strict: bool = False, owns: bool = True) -> Verdict:
    """The verdict on a lone entry."""
    return Comparison(owns=owns).judge((0, b"name"), Listed(source), there, strict=strict)


@pytest.mark.parametrize(
    ("source", "there", "verdict"),
    [
        (entry(), entry(), Verdict.SAME),
        (entry(), None, Verdict.WHOLE),
        (entry(), entry(DIR | 0o755), Verdict.WHOLE),
        (entry(FIFO), entry(), Verdict.WHOLE),
        (entry(), entry(FILE | 0o600), Verdict.META),
        (entry(), entry(uid=9), Verdict.META),
        (entry(), entry(gid=9), Verdict.META),
        (entry(), entry(xattrs=1), Verdict.META),
        (entry(), entry(mtime=6), Verdict.WHOLE),
        (entry(), entry(size=11), Verdict.WHOLE),
        (entry(size=BIG), entry(size=BIG), Verdict.SAME),
        (entry(size=BIG), entry(size=BIG, mtime=6), Verdict.BLOCKS | Verdict.META),
        (entry(size=BIG), entry(size=1), Verdict.BLOCKS | Verdict.META),
        (entry(size=1), entry(size=BIG), Verdict.BLOCKS | Verdict.META),
        (entry(DIR | 0o755), entry(DIR | 0o700), Verdict.SAME),
        (entry(DIR | 0o755), None, Verdict.WHOLE),
        (entry(LINK | 0o777, target=b"a"), entry(LINK | 0o777, target=b"a"), Verdict.SAME),
        (entry(LINK | 0o777, target=b"a"), entry(LINK | 0o755, target=b"a"), Verdict.SAME),
        (entry(LINK | 0o777, target=b"a"), entry(LINK | 0o777, target=b"a", mtime=6), Verdict.META),
        (entry(LINK | 0o777, target=b"a"), entry(LINK | 0o777, target=b"b"), Verdict.WHOLE),
        (entry(CHR, rdev=1), entry(CHR, rdev=1), Verdict.SAME),
        (entry(CHR, rdev=1), entry(CHR, rdev=2), Verdict.WHOLE),
        (entry(FIFO), entry(FIFO, mtime=6), Verdict.META),
    ],
)
def test_a_lone_entry(source: Entry, there: Entry | None, verdict: Verdict) -> None:
    assert judge(source, there) == verdict


@pytest.mark.parametrize("size", [1, BLOCK_BYTES, BIG])
def test_strict_compares_content_where_size_and_time_are_equal(size: int) -> None:
    assert judge(entry(size=size), entry(size=size), strict=True) == Verdict.BLOCKS
    assert judge(entry(size=size), entry(size=size, uid=9), strict=True) == Verdict.BLOCKS | Verdict.META
    assert judge(entry(FIFO), entry(FIFO), strict=True) == Verdict.SAME


def test_a_small_file_of_another_size_is_sent_whole_also_when_strict() -> None:
    assert judge(entry(), entry(size=11), strict=True) == Verdict.WHOLE


def test_owners_count_only_where_they_can_be_set() -> None:
    other = entry(uid=9, gid=9)
    assert judge(entry(), other, owns=False) == Verdict.SAME
    assert not same_meta(entry(), other, owns=True)
    assert same_meta(entry(), other, owns=False)


def run(
    groups: list[str], replica: list[str], *, sizes: tuple[int, int] = (10, 10), times: tuple[int, int] = (5, 5)
) -> dict[str, Verdict]:
    """Verdicts on names a, b, … listed in order, hard-linked in these groups on either side."""
    comparison = Comparison(owns=True)
    ino = {name: number for number, group in enumerate(replica, 1) for name in group}
    links = {name: len(group) for group in replica for name in group}
    heads = {name: group[0] for group in groups for name in group}
    there = {name: entry(size=sizes[1], mtime=times[1], ino=ino[name], nlink=links[name]) for name in ino}
    verdicts = {}
    for name in sorted(heads):
        link = heads[name] if heads[name] != name else None
        source = entry(size=sizes[0], mtime=times[0], nlink=sum(head == heads[name] for head in heads.values()))
        listed = Listed(source, None if link is None else link.encode())
        head = None if link is None else there.get(link)
        verdicts[name] = comparison.judge((0, name.encode()), listed, there.get(name), head)
    return verdicts


SAME, WHOLE, AS_LINK, BLOCKS = Verdict.SAME, Verdict.WHOLE, Verdict.LINK, Verdict.BLOCKS | Verdict.META


@pytest.mark.parametrize(
    ("source", "replica", "verdicts"),
    [
        (["ab"], ["ab"], [SAME, SAME]),
        (["ab"], ["a", "b"], [SAME, AS_LINK]),
        (["ab"], ["a"], [SAME, AS_LINK]),
        (["ab"], ["b"], [WHOLE, AS_LINK]),
        (["ab"], [], [WHOLE, AS_LINK]),
        (["a", "b"], ["ab"], [SAME, WHOLE]),
        (["a", "b", "c"], ["abc"], [SAME, WHOLE, WHOLE]),
        (["ab", "cd"], ["ab", "cd"], [SAME] * 4),
        (["ab", "cd"], ["ac", "bd"], [SAME, AS_LINK, WHOLE, AS_LINK]),
        (["ac", "bd"], ["ab", "cd"], [SAME, WHOLE, AS_LINK, AS_LINK]),
        (["ab", "cd"], ["abcd"], [SAME, SAME, WHOLE, AS_LINK]),
        (["abcd"], ["ab", "cd"], [SAME, SAME, AS_LINK, AS_LINK]),
    ],
)
def test_hard_links(source: list[str], replica: list[str], verdicts: list[Verdict]) -> None:
    assert list(run(source, replica).values()) == verdicts


def test_the_names_of_a_file_that_is_sent_again_are_linked_again() -> None:
    """On the replica b is still a name of the old file, whatever it was when it was compared."""
    assert run(["ab"], ["ab"], times=(5, 6)) == {"a": WHOLE, "b": AS_LINK}


def test_a_shared_file_is_patched_only_when_nobody_else_shares_it() -> None:
    assert run(["ab"], ["ab"], sizes=(BIG, BIG), times=(5, 6)) == {"a": BLOCKS, "b": SAME}
    assert run(["a", "b"], ["ab"], sizes=(BIG, BIG), times=(5, 6)) == {"a": WHOLE, "b": WHOLE}
    assert run(["ab"], ["abx"], sizes=(BIG, BIG), times=(5, 6)) == {"a": WHOLE, "b": AS_LINK}


def test_roots_are_apart() -> None:
    comparison = Comparison(owns=True)
    there = entry(ino=1, nlink=2)
    assert comparison.judge((0, b"name"), Listed(entry()), there) == Verdict.SAME
    assert comparison.judge((1, b"name"), Listed(entry()), there) == Verdict.WHOLE


SECONDS_TO_2038 = Times(-(10**9) << 31, ((1 << 31) - 1) * 10**9, 10**9)


@pytest.mark.parametrize(
    ("source", "replica", "equal"),
    [
        (1_999_999_999, 1_000_000_000, True),
        (1_999_999_999, 2_000_000_000, False),
        (-1, -1_000_000_000, True),
        (1 << 62, ((1 << 31) - 1) * 10**9, True),
        (1 << 70, ((1 << 31) - 1) * 10**9, True),
        (-(1 << 70), -(10**9) << 31, True),
        (7, 7, True),
    ],
)
@pytest.mark.parametrize("mode", [FILE | 0o644, LINK | 0o777, FIFO], ids=["file", "link", "fifo"])
def test_times_are_equal_as_far_as_the_replica_can_hold_them(mode: int, source: int, replica: int, equal: bool) -> None:
    there = entry(mode, mtime=replica)
    verdict = Comparison(owns=True).judge((0, b"name"), Listed(entry(mode, mtime=source)), there, times=SECONDS_TO_2038)
    assert (verdict == Verdict.SAME) == equal


ROOTS = Entry(b"f", stat.S_IFREG | 0o640, 0, 0, 1 << 20, 5)
STRANGE = {
    "another owner": ROOTS._replace(uid=1),
    "another group": ROOTS._replace(gid=1),
    "more permissions": ROOTS._replace(mode=stat.S_IFREG | 0o644),
    "other attributes": ROOTS._replace(xattrs=1),
}


@pytest.mark.parametrize("what", STRANGE)
def test_new_content_is_not_patched_into_a_file_that_others_may_have_open(what: str) -> None:
    def verdict(there: Entry, *, guarded: bool) -> Verdict:
        return Comparison(owns=True).judge((0, b"f"), Listed(ROOTS), there, guarded=guarded)

    there = STRANGE[what]
    assert verdict(there, guarded=True) == Verdict.META
    assert verdict(there, guarded=False) == (Verdict.WHOLE if what == "another owner" else Verdict.META)
    assert verdict(there._replace(mtime_ns=6), guarded=True) == Verdict.BLOCKS | Verdict.META
    assert verdict(there._replace(mtime_ns=6), guarded=False) == Verdict.WHOLE
    less = ROOTS._replace(mtime_ns=6, mode=stat.S_IFREG | 0o600)
    assert verdict(less, guarded=False) == Verdict.BLOCKS | Verdict.META


@pytest.mark.parametrize("mode", [FIFO, LINK | 0o777, stat.S_IFCHR | 0o600], ids=["fifo", "link", "device"])
@pytest.mark.parametrize("guarded", [False, True])
def test_what_a_user_may_have_put_there_becomes_nobodys_else(mode: int, guarded: bool) -> None:
    there = entry(mode)._replace(uid=7)
    verdict = Comparison(owns=True).judge((0, b"name"), Listed(entry(mode)), there, guarded=guarded)
    assert verdict == (Verdict.META if guarded else Verdict.WHOLE)


def test_where_owners_cannot_be_set_a_file_of_another_user_is_sent_as_a_whole() -> None:
    def verdict(uid: int, *, guarded: bool = False, own: int | None = 1500) -> Verdict:
        there = ROOTS._replace(uid=uid, mtime_ns=6)
        return Comparison(owns=False).judge((0, b"f"), Listed(ROOTS), there, guarded=guarded, own=own)

    patched = Verdict.BLOCKS | Verdict.META
    assert (verdict(1500), verdict(0), verdict(1)) == (patched, Verdict.WHOLE, Verdict.WHOLE)
    assert (verdict(1, guarded=True), verdict(1, own=None)) == (patched, patched)


@pytest.mark.parametrize(
    ("mode", "uid", "guarded"), [(0o755, 0, True), (0o775, 0, False), (0o1777, 0, False), (0o700, 1234, False)]
)
def test_in_a_guarded_directory_nobody_else_creates_names(mode: int, uid: int, guarded: bool) -> None:
    assert is_guarded(Entry(b"", stat.S_IFDIR | mode, uid, 0, 0, 0)) is guarded


def test_a_further_name_in_what_a_history_keeps_is_no_difference() -> None:
    """The replica's file has one link more than the source's, as long as a tree is kept that it was in as well."""
    assert judge(entry(), entry(nlink=2)) is Verdict.SAME
    assert judge(entry(size=BIG), entry(size=BIG, nlink=2)) is Verdict.SAME
    assert judge(entry(size=BIG), entry(size=BIG, mtime=6, nlink=2)) is Verdict.WHOLE
