"""The changes that the check of a capture makes on two roots: one kind after the other, and many at random.

A scene is a few changes that are made together, with the reports that they require. The scenes of `Script` build on
each other: nearly all of them use the same few files.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence

import attrs

from i2core.api import Place
from i2core.testing.file_ops import Step

EXCLUDED = b"excluded"
"""The name of the directory that the rule excludes."""
_HOME = b"p/q/home"
"""The new place of a tree that was created in another root."""
_GONE = b"/outside-tree"
"""The new place of a tree that leaves the roots."""
_ODD_NAMES = (b"new\nline", b"\xff\xfe bad utf-8 \x80", b"n" * 255, b" blanks ", b"-rf", "名字".encode(), b"a\\b\t'\"")


@attrs.frozen(kw_only=True)
class Scene:
    """Steps that are done together, and the reports that they require."""

    what: str
    steps: tuple[Step, ...]
    named: tuple[Place, ...] = ()
    """Places that a report must name or cover."""
    renames: tuple[tuple[Place, Place], ...] = ()
    """Pairs of old and new names, each of which one RENAME must report."""
    never: tuple[Place, ...] = ()
    """Places that no report may name any more: they, with all beneath, have another name or are outside of the
    roots."""


def _scene(what: str, steps: Sequence[Step], *named: Place) -> Scene:
    return Scene(what=what, steps=tuple(steps), named=named)


class Script:
    """Every kind of change, on two roots and in a directory beside them."""

    def __init__(self, roots: Sequence[bytes], outside: bytes) -> None:
        self._roots = roots
        self._outside = outside

    def scenes(self) -> Iterator[Scene]:
        """The scenes in order. The caller plays each one before it takes the next."""
        yield from self._one_file()
        yield from self._other_kinds()
        yield from self._directories()
        yield from self._odd_names()
        yield from self._held_open()
        yield from self._renamed_files()
        yield from self._renamed_trees()
        yield from self._exchanged_trees()
        yield from self._out_of_the_roots()
        yield from self._into_the_roots()
        yield from self._removed()

    def _at(self, root: int, path: bytes) -> tuple[Place, bytes]:
        return Place(root, path), self._path(root, path)

    def _path(self, root: int, path: bytes) -> bytes:
        return os.path.join(self._roots[root], path)

    def _one_file(self) -> Iterator[Scene]:
        file, file_abs = self._at(0, b"file")
        yield _scene("create a file", [("write", file_abs, b"one")], file)
        yield _scene("append", [("append", file_abs, b" two")], file)
        yield _scene("write in place", [("pwrite", file_abs, 1, b"N")], file)
        yield _scene("truncate", [("truncate", file_abs, 2)], file)
        yield _scene("grow by truncate", [("truncate", file_abs, 100_000)], file)
        yield _scene("chmod a file", [("chmod", file_abs, 0o600)], file)
        yield _scene("set times", [("utime", file_abs, (1_000_000, 1_000_000))], file)
        yield _scene("set an xattr", [("setxattr", file_abs, b"user.i2check", b"value")], file)
        link, link_abs = self._at(0, b"hard link")
        yield _scene("hard link", [("link", file_abs, link_abs)], link)
        yield _scene("write through a hard link", [("append", link_abs, b"more")], link)

    def _other_kinds(self) -> Iterator[Scene]:
        yield _scene("chmod a root", [("chmod", self._roots[1], 0o750)], Place(1, b""))
        symlink, symlink_abs = self._at(1, b"symlink")
        yield _scene("symlink", [("symlink", b"file", symlink_abs)], symlink)
        yield _scene("fifo", [("mkfifo", self._path(1, b"fifo"))], Place(1, b"fifo"))

    def _directories(self) -> Iterator[Scene]:
        folder, folder_abs = self._at(0, b"dir")
        yield _scene("mkdir", [("mkdir", folder_abs)], folder)
        yield _scene("chmod a directory", [("chmod", folder_abs, 0o711)], folder)
        yield _scene("a file in a new directory", [("write", folder_abs + b"/in", b"x")], Place(0, b"dir/in"))
        deep, deep_abs = self._at(1, b"p/q/r/s/t")
        yield _scene(
            "mkdir -p and a file at its end, quickly",
            [("makedirs", deep_abs), ("write", deep_abs + b"/leaf", b"leaf")],
            *(Place(1, deep.path[:end]) for end in (1, 3, 5, 7, 9)),
            Place(1, deep.path + b"/leaf"),
        )
        yield _scene("a write far down", [("append", deep_abs + b"/leaf", b"!")], Place(1, deep.path + b"/leaf"))

    def _odd_names(self) -> Iterator[Scene]:
        for name in _ODD_NAMES:
            odd, odd_abs = self._at(0, b"dir/" + name)
            yield _scene(f"odd name {name!r}", [("mkdir", odd_abs), ("write", odd_abs + b"/" + name, name)], odd)
            inside = Place(0, odd.path + b"/" + name)
            yield _scene(f"write under odd name {name!r}", [("append", odd_abs + b"/" + name, name)], inside)

    def _held_open(self) -> Iterator[Scene]:
        """Files that are written to while they have lost their name, or have not got one yet."""
        log, log_abs = self._at(0, b"log")
        rotated, rotated_abs = self._at(0, b"dir/log.1")
        yield _scene("open a log", [("write", log_abs, b"one\n"), ("hold", log_abs)], log)
        yield _scene("rotate it by a link", [("link", log_abs, rotated_abs), ("unlink", log_abs)], log, rotated)
        yield _scene("write on by the descriptor", [("write_held", b"two\n")], log)
        yield _scene("begin the log again", [("write", log_abs, b"new\n")], log)
        yield _scene("write on to the old one", [("write_held", b"three\n"), ("let_go",)], log)
        if _has_unnamed(self._roots[1]):
            # The kernel decides under which name a write to it is reported: the report only has to lead to the file.
            unnamed, unnamed_abs = self._at(1, b"unnamed")
            yield _scene("name a file that had none", [("hold_unnamed", self._roots[1], unnamed_abs)], unnamed)
            yield _scene("write to it", [("write_held", b"x"), ("let_go",)])

    def _renamed_files(self) -> Iterator[Scene]:
        file, file_abs = self._at(0, b"file")
        link, link_abs = self._at(0, b"hard link")
        moved, moved_abs = self._at(0, b"moved")
        yield Scene(what="rename a file", steps=(("rename", link_abs, moved_abs),), renames=((link, moved),))
        yield Scene(
            what="rename over a file",
            steps=(("rename", moved_abs, file_abs + b"2"),),
            renames=((moved, Place(0, b"file2")),),
        )
        yield Scene(
            what="write to a new file and rename it over another",
            steps=(("write", file_abs + b"~", b"saved"), ("rename", file_abs + b"~", file_abs)),
            named=(file,),
            renames=((Place(0, b"file~"), file),),
        )
        across, across_abs = self._at(1, b"across")
        yield Scene(
            what="rename to another root",
            steps=(("rename", file_abs + b"2", across_abs),),
            renames=((Place(0, b"file2"), across),),
        )

    def _renamed_trees(self) -> Iterator[Scene]:
        tree, tree_abs = self._at(0, b"tree")
        other, other_abs = self._at(0, b"renamed tree")
        yield _scene("a tree", [("lone_tree", tree_abs, 6)], tree)
        yield Scene(what="rename a tree", steps=(("rename", tree_abs, other_abs),), renames=((tree, other),))
        below = b"/deeper" * 5 + b"/file"
        yield Scene(
            what="write in a renamed tree",
            steps=(("append", other_abs + below, b"?"),),
            named=(Place(0, other.path + below),),
            never=(tree,),
        )
        home, home_abs = self._at(1, _HOME)
        yield Scene(
            what="rename a tree to another root, and write in it at once",
            steps=(
                ("rename", other_abs, home_abs),
                ("append", home_abs + below, b"?"),
                ("write", home_abs + b"/n", b""),
            ),
            named=(Place(1, home.path + below), Place(1, home.path + b"/n")),
            renames=((other, home),),
            never=(tree,),
        )

    def _exchanged_trees(self) -> Iterator[Scene]:
        home, home_abs = self._at(1, _HOME)
        empty, empty_abs = self._at(1, b"empty")
        swap = (self._path(1, b"p/q/r"), home_abs)
        yield Scene(
            what="exchange two trees, and write in both",
            steps=(("exchange", *swap), ("write", swap[0] + b"/one", b"1"), ("write", swap[1] + b"/two", b"2")),
            named=(Place(1, b"p/q/r"), home, Place(1, b"p/q/r/one"), Place(1, home.path + b"/two")),
        )
        yield _scene("an empty directory", [("mkdir", empty_abs)], empty)
        yield Scene(
            what="rename a tree over an empty directory, and write in it",
            steps=(("rename", home_abs, empty_abs), ("write", empty_abs + b"/three", b"3")),
            named=(Place(1, b"empty/three"),),
            renames=((home, empty),),
        )

    def _out_of_the_roots(self) -> Iterator[Scene]:
        gone_abs = self._outside + _GONE
        yield Scene(
            what="move a tree out",
            steps=(("rename", self._path(1, b"p/q"), gone_abs),),
            named=(Place(1, b"p/q"),),
        )
        yield Scene(
            what="work outside the roots",
            steps=(
                ("write", gone_abs + b"/r/outside-1", b""),
                ("append", gone_abs + b"/r/file", b"x"),
                ("write", self._outside + b"/outside-2", b""),
                ("symlink", self._outside, self._path(0, b"trap")),
                ("write", self._path(0, b"trap/outside-3"), b"through a symlink"),
            ),
            named=(Place(0, b"trap"),),
            never=(Place(1, b"p/q"),),
        )

    def _into_the_roots(self) -> Iterator[Scene]:
        back, back_abs = self._at(0, b"back")
        written = back.child(b"r").child(b"file")
        yield _scene(
            "move a file in", [("rename", self._outside + b"/outside-2", self._path(0, b"in"))], Place(0, b"in")
        )
        yield Scene(
            what="move a tree in, and write in it at once",
            steps=(("rename", self._outside + _GONE, back_abs), ("append", back_abs + b"/r/file", b"y")),
            named=(back, written),
        )
        yield _scene("write in the tree moved in", [("append", back_abs + b"/r/file", b"z")], written)

    def _removed(self) -> Iterator[Scene]:
        file, file_abs = self._at(0, b"file")
        folder, folder_abs = self._at(0, b"dir")
        yield _scene("unlink", [("unlink", file_abs)], file)
        yield _scene("unlink a symlink", [("unlink", self._path(0, b"trap"))], Place(0, b"trap"))
        yield _scene("remove a tree", [("rmtree", folder_abs)], folder)
        yield _scene(
            "put a file where a directory was, and a directory where a file was",
            [("write", folder_abs, b"file now"), ("mkdir", file_abs), ("write", file_abs + b"/in", b"")],
            folder,
            Place(0, b"file/in"),
        )
        yield _scene(
            "work in an excluded directory, and beside it",
            [
                ("mkdir", self._path(0, EXCLUDED)),
                ("write", self._path(0, EXCLUDED + b"/x"), b""),
                ("write", self._path(0, b"beside"), b""),
            ],
            Place(0, b"beside"),
        )


def _has_unnamed(directory: bytes) -> bool:
    """True if the file system supports files without a name."""
    try:
        os.close(os.open(directory, os.O_TMPFILE | os.O_WRONLY, 0o600))
    except OSError:
        return False
    return True


def random_steps(roots: Sequence[bytes], count: int, rng: random.Random) -> list[Step]:
    """`count` steps that use a few names again and again, so that they conflict. Hard links are left out: after a write
    through a name that is unlinked at once, no name leads to the other links."""

    def path() -> bytes:
        return b"/".join([rng.choice(roots), *(rng.choice((b"a", b"b", b"c")) for _ in range(rng.randint(1, 3)))])

    makers: tuple[Callable[[], Step], ...] = (
        lambda: ("write", path(), b"%d" % rng.getrandbits(32)),
        lambda: ("append", path(), b"+"),
        lambda: ("chmod", path(), rng.choice((0o700, 0o755, 0o711))),
        lambda: ("makedirs", path()),
        lambda: ("lone_tree", path(), 3),
        lambda: ("symlink", rng.choice((b"a", b"b")), path()),
        lambda: ("rename", path(), path()),
        lambda: ("rename", path(), path()),
        lambda: ("exchange", path(), path()),
        lambda: ("unlink", path()),
        lambda: ("rmtree", path()),
    )
    return [("attempt", *rng.choice(makers)()) for _ in range(count)]
