"""The glob filter: its contract, excluded directories, and patterns on names."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from i2_filter_glob.config import GlobConfig
from i2_filter_glob.filter import GlobFilter
from i2_filter_glob.plugin import i2_filters

from i2core.api import Place
from i2core.testing import check_filter


def _wants(config: GlobConfig, path: bytes, *, is_dir: bool = False, root: bytes = b"/srv/data") -> bool:
    return GlobFilter(config, (root,)).wants(Place(0, path), is_dir)


@pytest.mark.parametrize(
    "options",
    [
        None,
        {},
        {"exclude": ["/"]},
        {"exclude": ["/srv/data/nested", "/srv/b\udcff\n/tmp", "/srv/data/tmp"]},
        {"include_types": ["*.doc", "[a-r]*"], "exclude_types": ["\udcff*", "?????"]},
    ],
)
async def test_it_keeps_its_contract(options: dict[str, list[str]] | None) -> None:
    (spec,) = i2_filters()
    await check_filter(spec, options)


def test_without_options_everything_is_wanted() -> None:
    for path in (b"", b"a", b"a/\xff\n", b"n" * 255):
        assert _wants(GlobConfig(), path)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (b"", True),
        (b"tmp", False),
        (b"tmp/a", False),
        (b"tmp/a/b/c", False),
        (b"tmpfile", True),
        (b"tmp!", True),
        (b"tmp0/a", True),
        (b"a/tmp", True),
        (b"a", True),
        (b"a/b", False),
        (b"a/b/c", False),
        (b"a/bc", True),
        (b"\xff\n", False),
        (b"\xff\n/x", False),
    ],
)
@pytest.mark.parametrize("is_dir", [True, False])
def test_an_excluded_path_covers_itself_and_all_beneath(path: bytes, wanted: bool, is_dir: bool) -> None:
    exclude = ("/srv/data/tmp", "/srv/data/tmp!!", "/srv//data/a/b/", "/srv/data/a/b/c/d", "/srv/data/\udcff\n", "/etc")
    assert _wants(GlobConfig(exclude=exclude), path, is_dir=is_dir) is wanted


@pytest.mark.parametrize("exclude", ["/srv/data", "/srv/", "/", "/srv/data//"])
def test_a_root_beneath_an_excluded_path_is_out(exclude: str) -> None:
    assert not _wants(GlobConfig(exclude=(exclude,)), b"", is_dir=True)
    assert not _wants(GlobConfig(exclude=(exclude,)), b"a/b")


def test_each_root_has_its_own_exclusions() -> None:
    glob = GlobFilter(GlobConfig(exclude=("/a/x", "/b/y")), (b"/a", b"/b", b"/"))
    wanted = {(root, path) for root in range(3) for path in (b"x", b"y", b"a/x", b"b/y", b"a/y")} - {
        (0, b"x"),
        (1, b"y"),
        (2, b"a/x"),
        (2, b"b/y"),
    }
    for root in range(3):
        for path in (b"x", b"y", b"a/x", b"b/y", b"a/y"):
            assert glob.wants(Place(root, path), False) is ((root, path) in wanted)


_PART = st.binary(min_size=1, max_size=2).filter(lambda part: part not in (b".", b"..") and not set(part) & {0, 47})
_PATH = st.lists(_PART, min_size=1, max_size=3).map(b"/".join)


@given(st.lists(_PATH, max_size=8), _PATH)
def test_exclusion_is_what_its_definition_says(excluded: list[bytes], path: bytes) -> None:
    exclude = tuple(os.fsdecode(b"/srv/data/" + other) for other in excluded)
    covered = any(path == other or path.startswith(other + b"/") for other in excluded)
    assert _wants(GlobConfig(exclude=exclude), path) is not covered


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (b"a.doc", True),
        (b"dir.doc/a.txt", False),
        (b"deep/er/a.docx", True),
        (b"a.DOC", False),
        (b".doc", True),
        (b"new\nline.doc", True),
        (b"\xff\xfe.doc", True),
        (b"report-7", True),
        (b"report-77", False),
        (b"xreport-7", False),
        ("文.text".encode(), True),
        (b"ab.text", False),
        (b"\xff.text", True),
        (b"a.doc\n", False),
        (b"", False),
    ],
)
def test_included_patterns(name: bytes, wanted: bool) -> None:
    config = GlobConfig(include_types=("*.doc", "*.docx", "report-[0-9]", "?.text"))
    assert _wants(config, name) is wanted
    assert _wants(config, name, is_dir=True), "directories are always wanted"


@pytest.mark.parametrize("patterns", [("*.tmp", "*~"), ("~$*",), ("*.tmp", "[!a-z]*")])
def test_excluded_patterns(patterns: tuple[str, ...]) -> None:
    config = GlobConfig(exclude_types=patterns)
    assert _wants(config, b"tmp/file.txt")
    assert not _wants(config, {"*~": b"d/a~", "~$*": b"d/~$a.doc", "[!a-z]*": b"d/1"}[patterns[-1]])


def test_excluded_patterns_win_over_included_ones() -> None:
    config = GlobConfig(include_types=("*.doc",), exclude_types=("~$*",))
    assert _wants(config, b"a.doc")
    assert not _wants(config, b"~$a.doc")


@pytest.mark.parametrize(
    "options",
    [
        {"exclude": ("tmp",)},
        {"exclude": ("",)},
        {"exclude": ("/a/../b",)},
        {"exclude": ("/a/./b",)},
        {"exclude": ("/a\0b",)},
        {"include_types": ("",)},
        {"include_types": ("a/*.doc",)},
        {"exclude_types": ("/tmp",)},
    ],
)
def test_options_that_could_never_match_are_refused(options: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        GlobConfig(**options)
