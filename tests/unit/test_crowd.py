"""Which connection is dropped when there are too many strangers."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from i2core.net.crowd import Crowd, neighbourhood
from i2core.node.pairing.enrolment import ADDRESSES, FREE_TRIES, SLOWEST_S, WINDOW_S, Guesses


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "", True),
        ("an address that is gone", "", False),
    ],
)
def test_who_counts_as_one(one: str, other: str, together: bool) -> None:
    assert (neighbourhood(one) == neighbourhood(other)) is together


class Door:
    """A crowd, and the fate of its visitors in the order of their arrival."""

    def __init__(self, nursery: trio.Nursery, capacity: int) -> None:
        self._nursery = nursery
        self._crowd = Crowd(capacity)
        self.left: list[tuple[str, int]] = []
        self._number = 0

    async def come(self, address: str) -> None:
        self._number += 1
        self._nursery.start_soon(self._stay, address, self._number)
        await trio.testing.wait_all_tasks_blocked()

    async def _stay(self, address: str, number: int) -> None:
        with self._crowd.stay(address, 60) as scope:
            await trio.sleep(1000)
        if scope.cancelled_caught:
            self.left.append((address, number))


async def test_a_flood_from_one_address_displaces_itself() -> None:
    async with trio.open_nursery() as nursery:
        door = Door(nursery, 8)
        await door.come("192.0.2.7")
        for _ in range(30):
            await door.come("198.51.100.1")
        assert {address for address, _ in door.left} == {"198.51.100.1"}
        assert [number for _, number in door.left] == sorted(number for _, number in door.left), "the oldest first"
        await door.come("192.0.2.8")
        assert {address for address, _ in door.left} == {"198.51.100.1"}
        nursery.cancel_scope.cancel()


async def test_with_equal_numbers_the_address_that_comes_again_loses_one() -> None:
    async with trio.open_nursery() as nursery:
        door = Door(nursery, 3)
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.2"):
            await door.come(address)
        assert door.left == [("192.0.2.2", 2)]
        await door.come("192.0.2.9")
        assert len(door.left) == 2
        nursery.cancel_scope.cancel()


async def test_a_visitor_may_stay_so_long() -> None:
    crowd = Crowd(2)
    with crowd.stay("192.0.2.1", 0) as scope:
        await trio.sleep(1000)
    assert scope.cancelled_caught


def test_guesses_of_one_address_take_longer_and_longer() -> None:
    guesses = Guesses()
    waits = [guesses.wait_s("192.0.2.1", 1.0) for _ in range(40)]
    assert waits[:FREE_TRIES] == [0.0] * FREE_TRIES
    assert waits == sorted(waits)
    assert waits[-1] == SLOWEST_S
    assert guesses.wait_s("192.0.2.2", 1.0) == 0.0, "another address waits for nothing"
    assert guesses.wait_s("192.0.2.1", 2.0 + WINDOW_S) == 0.0


def test_guesses_from_everywhere_take_bounded_memory() -> None:
    guesses = Guesses()
    for number in range(ADDRESSES + 50):
        guesses.wait_s(str(number), 1.0)
    assert guesses.wait_s("one more", 1.0) == SLOWEST_S
