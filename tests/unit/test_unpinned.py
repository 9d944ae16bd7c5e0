"""When an object that has lost a pin is checked again."""

from __future__ import annotations

import trio

from i2core.api import Place
from i2core.api.inode_flags import PINS, UNREAD, packed
from i2core.rule.live import unpinned
from i2core.rule.live.part import NEVER
from i2core.rule.live.unpinned import FIRST_S, LONGEST_S, Unpinned

PINNED = packed(PINS, 0)
FILE, OTHER = Place(0, b"file"), Place(0, b"other")


async def test_the_waits_double_and_end(autojump_clock: object) -> None:
    part = Unpinned()
    part.seen(FILE, PINNED, 0)
    assert part.due_at == trio.current_time(), "it is to be taken up"
    looks: list[float] = []
    begun = trio.current_time()
    assert part.take() == []
    while part.due_at < NEVER:
        await trio.sleep_until(part.due_at)
        looks.append(trio.current_time() - begun)
        assert part.take() == [FILE]
        assert part.is_empty and part.rests and not part.owed(1 << 62), "nothing waits for it"
    assert looks[:4] == [FIRST_S, 3 * FIRST_S, 7 * FIRST_S, 15 * FIRST_S]
    assert LONGEST_S < looks[-1] < 2 * LONGEST_S


async def test_what_is_pinned_again_is_not_looked_at(autojump_clock: object) -> None:
    part = Unpinned()
    part.seen(FILE, PINNED, 0)
    part.seen(OTHER, PINNED, 0)
    part.take()
    part.seen(FILE, 0, PINNED)
    await trio.sleep(FIRST_S)
    assert part.take() == [OTHER]


async def test_only_a_lost_pin_counts() -> None:
    part = Unpinned()
    for before, now in ((0, 0), (UNREAD, 0), (PINNED, UNREAD), (packed(0x40, 5), 0)):
        part.seen(FILE, before, now)
    assert part.take() == []
    assert part.due_at == NEVER


async def test_there_is_a_bound() -> None:
    part = Unpinned()
    for number in range(unpinned.MOST + 10):
        part.seen(Place(0, b"%d" % number), PINNED, 0)
    part.take()
    assert len(part._waiting) == unpinned.MOST
