"""Events as the kernel may hand them out: halves of renames far apart, late, missing, or in another read."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from i2_capture_inotify.kernel import (
    EVENT,
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE,
    IN_ISDIR,
    IN_MODIFY,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
    Inotify,
)
from i2_capture_inotify.translate import Translator
from i2_capture_inotify.walk import Spot, Walk, Walker
from i2_capture_inotify.watches import WatchTable

from i2core.api import CaptureContext, Change, Op


def event(wd: int, mask: int, name: bytes = b"", cookie: int = 0) -> bytes:
    """One ``struct inotify_event``; the kernel pads names to 16 bytes."""
    padded = name + b"\0" * (16 - len(name) % 16) if name else b""
    return EVENT.pack(wd, mask, cookie, len(padded)) + padded


@pytest.fixture
def translator(tmp_path: Path) -> Translator:
    """The root has wd 1, the directories ``a`` and ``b`` have 2 and 3."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    table = WatchTable(1)
    inotify = Inotify()
    walker = Walker(inotify, table, CaptureContext(roots=(bytes(tmp_path),)))
    walker.step(Walk(Spot(None, b"", 0)), 10)
    inotify.close()
    assert len(table.by_wd) == 3
    renumbered = {1: table.roots[0], 2: table.at(0, b"a"), 3: table.at(0, b"b")}
    table.by_wd.clear()
    table.by_wd.update({wd: node for wd, node in renumbered.items() if node is not None})
    return Translator(table, walker, lambda root, path: True)


def told(translator: Translator) -> list[tuple[Op, bytes, bytes | None]]:
    """Takes what was translated so far."""
    out, translator.out = translator.out, []
    return [(c.op, c.place.path, c.to and c.to.path) for c in out if isinstance(c, Change)]


def test_both_halves_side_by_side_are_a_rename(translator: Translator) -> None:
    raw = event(2, IN_MOVED_FROM, b"x", 7) + event(3, IN_MOVED_TO, b"y", 7)
    assert translator.translate(raw, 0) == b""
    assert told(translator) == [(Op.RENAME, b"a/x", b"b/y")]


def test_what_changes_content_and_mode_at_once_is_one_event(translator: Translator) -> None:
    assert translator.translate(event(2, IN_MODIFY | IN_ATTRIB, b"setuid"), 0) == b""
    assert told(translator) == [(Op.MODIFY, b"a/setuid", None)]


def test_halves_with_other_events_and_other_halves_between_them_find_each_other(translator: Translator) -> None:
    raw = b"".join(
        (
            event(2, IN_MOVED_FROM, b"x", 7),
            event(1, IN_CREATE, b"new"),
            event(2, IN_MOVED_FROM, b"p", 8),
            event(3, IN_MOVED_TO, b"y", 7),
            event(3, IN_MOVED_TO, b"q", 8),
            event(1, IN_DELETE, b"new"),
        )
    )
    assert translator.translate(raw, 0) == b""
    assert told(translator) == [
        (Op.RENAME, b"a/x", b"b/y"),
        (Op.CREATE, b"new", None),
        (Op.RENAME, b"a/p", b"b/q"),
        (Op.REMOVE, b"new", None),
    ]


def test_a_first_half_at_the_end_waits_and_all_behind_it_waits_too(translator: Translator) -> None:
    head, half = event(1, IN_CREATE, b"new"), event(2, IN_MOVED_FROM, b"x", 7)
    behind = event(1, IN_DELETE, b"new")
    rest = translator.translate(head + half + behind, 0)
    assert rest == half + behind
    assert translator.unsettled
    assert told(translator) == [(Op.CREATE, b"new", None)]
    assert translator.translate(rest + event(3, IN_MOVED_TO, b"y", 7), 0) == b""
    assert told(translator) == [(Op.RENAME, b"a/x", b"b/y"), (Op.REMOVE, b"new", None)]


def test_a_first_half_whose_time_is_up_is_a_removal_and_a_late_second_half_a_creation(translator: Translator) -> None:
    old, young = event(2, IN_MOVED_FROM, b"x", 7), event(2, IN_MOVED_FROM, b"z", 9)
    rest = translator.translate(old + young, len(old))
    assert rest == young
    assert told(translator) == [(Op.REMOVE, b"a/x", None)]
    assert translator.translate(rest + event(3, IN_MOVED_TO, b"y", 7), len(young)) == b""
    assert told(translator) == [(Op.REMOVE, b"a/z", None), (Op.CREATE, b"b/y", None)]


def test_what_says_the_same_is_said_once_until_a_name_changes(translator: Translator) -> None:
    write, touch, other = event(2, IN_MODIFY, b"x"), event(2, IN_ATTRIB, b"x"), event(3, IN_MODIFY, b"x")
    translator.translate(write + other + write + touch + write + touch + event(2, IN_CREATE, b"y") + write, 0)
    assert told(translator) == [
        (Op.MODIFY, b"a/x", None),
        (Op.MODIFY, b"b/x", None),
        (Op.ATTRIB, b"a/x", None),
        (Op.CREATE, b"a/y", None),
        (Op.MODIFY, b"a/x", None),
    ]


@pytest.mark.parametrize("name", [b"new\nline", b"\xff\xfe", b"n" * 255, b"n" * 15, b"n" * 16, b" ", b"\\"])
def test_names_are_bytes_of_any_length(translator: Translator, name: bytes) -> None:
    translator.translate(event(2, IN_CREATE, name) + event(2, IN_DELETE, name), 0)
    assert told(translator) == [(Op.CREATE, b"a/" + name, None), (Op.REMOVE, b"a/" + name, None)]


def test_the_attributes_of_a_root_are_told_and_those_of_other_directories_by_their_parent_alone(
    translator: Translator,
) -> None:
    translator.translate(event(1, IN_ATTRIB | IN_ISDIR) + event(2, IN_ATTRIB | IN_ISDIR), 0)
    assert told(translator) == [(Op.ATTRIB, b"", None)]


def test_an_overflow_is_noted_and_the_events_around_it_count(translator: Translator) -> None:
    raw = event(2, IN_CREATE, b"x") + event(-1, IN_Q_OVERFLOW) + event(2, IN_CREATE, b"y")
    assert translator.translate(raw, 0) == b""
    assert translator.overflowed
    assert told(translator) == [(Op.CREATE, b"a/x", None), (Op.CREATE, b"a/y", None)]


def test_events_of_a_watch_that_is_not_known_are_nothing(translator: Translator) -> None:
    assert translator.translate(event(99, IN_CREATE, b"x") + event(99, IN_ATTRIB | IN_ISDIR), 0) == b""
    assert told(translator) == []


def test_a_hundred_thousand_events_a_second_is_the_least(translator: Translator) -> None:
    raw = b"".join(event(2 + i % 2, mask, b"file%d" % i) for i in range(4000) for mask in (IN_CREATE, IN_MODIFY))
    rates = []
    for _ in range(5):
        began = time.process_time()
        translator.translate(raw, 0)
        rates.append(8000 / (time.process_time() - began))
        assert len(told(translator)) == 8000
    assert max(rates) > 100_000


def moved(names: Callable[[int], bytes]) -> bytes:
    return b"".join(event(2, IN_MOVED_FROM, names(i), 100 + i) for i in range(1000))


def test_many_halves_that_stay_alone_cost_no_more_than_their_number(translator: Translator) -> None:
    raw = moved(lambda i: b"f%d" % i) + event(1, IN_CREATE, b"end") * 20_000
    began = time.process_time()
    assert translator.translate(raw, len(raw)) == b""
    assert time.process_time() - began < 2
    assert len(told(translator)) == 21_000
