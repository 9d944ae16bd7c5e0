"""The table of watches: paths after renames, and trees without a place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from i2_capture_inotify.watches import Directory, WatchTable


def chain(table: WatchTable, length: int) -> list[Directory]:
    """A root and directories ``d1/d2/…`` beneath it."""
    nodes = [table.add_root(0, 1)]
    for i in range(1, length):
        nodes.append(table.add(nodes[-1], b"d%d" % i, 1 + i))
    return nodes


def test_a_rename_changes_the_paths_of_all_beneath() -> None:
    table = WatchTable(2)
    root, one, two, three = chain(table, 4)
    other = table.add_root(1, 100)
    assert table.prefix(three) == b"d1/d2/d3/"
    table.move(two, root, b"moved")
    assert (table.prefix(three), table.prefix(one)) == (b"moved/d3/", b"d1/")
    table.move(two, other, b"across")
    assert (table.prefix(three), three.root) == (b"across/d3/", 1)
    assert table.at(1, b"across/d3") is three
    assert table.at(0, b"moved") is None


def test_what_takes_the_name_of_another_displaces_it_with_all_beneath() -> None:
    table = WatchTable(1)
    root, one, two = chain(table, 3)
    new = table.add(root, b"d1", 50)
    assert table.prefix(two) is None
    assert table.prefix(new) == b"d1/"
    assert set(table.displaced) == {one.wd}
    table.move(one, root, b"again")
    assert table.prefix(two) == b"again/d2/"
    assert not table.displaced


def test_a_watch_that_ended_is_known_no_more() -> None:
    table = WatchTable(1)
    _, one, two = chain(table, 3)
    assert table.forget(one.wd) is one
    assert table.forget(one.wd) is None
    assert table.prefix(two) is None
    assert set(table.displaced) == {two.wd}
    assert one.wd not in table.by_wd


def test_a_directory_never_moves_beneath_itself() -> None:
    table = WatchTable(1)
    _, one, two, three = chain(table, 4)
    table.move(one, three, b"loop")
    assert table.prefix(two) == b"d1/d2/"
    assert table.missed == {three}


def test_a_root_that_comes_again_keeps_what_is_known_of_it() -> None:
    table = WatchTable(1)
    root, one = chain(table, 2)
    table.displace(root)
    assert table.prefix(one) is None
    assert table.add_root(0, root.wd) is root
    assert table.prefix(one) == b"d1/"
    assert not table.displaced


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.sampled_from([b"a", b"b", b"c"])), max_size=40))
def test_paths_are_always_what_the_names_on_the_way_up_say(moves: list[tuple[int, int, bytes]]) -> None:
    table = WatchTable(1)
    nodes = [table.add_root(0, 1)]
    nodes += [table.add(nodes[0], b"n%d" % i, 1 + i) for i in range(1, 10)]
    for which, to, name in moves:
        table.move(nodes[which], nodes[to], name)
        for node in nodes:
            parts: list[bytes] = []
            up: Directory = node
            while up.parent is not None:
                parts.insert(0, up.name + b"/")
                up = up.parent
            assert table.prefix(node) == (b"".join(parts) if up is nodes[0] else None)
