"""Background tasks fail like a plain call."""

from __future__ import annotations

import sqlite3

import pytest
import trio

from i2core.api import LinkError, StopRule
from i2core.tasks import background, leaf


async def fail(error: BaseException) -> None:
    """A task that fails with this error."""
    raise error


async def test_tasks_end_with_the_body() -> None:
    ended = trio.Event()

    async def serve() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with background() as nursery:
        nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()
    assert ended.is_set()


async def test_the_error_of_a_task_is_raised_unwrapped() -> None:
    with pytest.raises(LinkError, match="gone"):
        async with background() as nursery:
            nursery.start_soon(fail, LinkError("gone"))
            await trio.sleep_forever()


async def test_the_error_of_the_body_is_raised_unwrapped() -> None:
    with pytest.raises(LinkError, match="body"):
        async with background() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise LinkError("body")


async def test_nested_groups_are_unwrapped() -> None:
    async def outer() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, LinkError("deep"))

    with pytest.raises(LinkError, match="deep"):
        async with background() as nursery:
            nursery.start_soon(outer)
            await trio.sleep_forever()


async def test_causes_are_kept() -> None:
    async def chained() -> None:
        raise LinkError("second") from OSError("first")

    with pytest.raises(LinkError) as caught:
        async with background() as nursery:
            nursery.start_soon(chained)
            await trio.sleep_forever()
    assert isinstance(caught.value.__cause__, OSError)


async def test_cancellation_from_outside_passes() -> None:
    with trio.move_on_after(0) as scope:
        async with background() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_an_interrupt_is_never_hidden_by_an_error() -> None:
    with pytest.raises(KeyboardInterrupt):
        async with background() as nursery:
            nursery.start_soon(fail, LinkError("gone"))
            nursery.start_soon(fail, KeyboardInterrupt())
            await trio.sleep_forever()


def test_the_first_error_counts() -> None:
    first, second = ValueError("first"), ValueError("second")
    assert leaf(BaseExceptionGroup("", [BaseExceptionGroup("", [first]), second])) in (first, second)
    assert leaf(ExceptionGroup("", [first, second])) is first


@pytest.mark.parametrize(
    ("errors", "matters"),
    [
        ((LinkError("gone"), StopRule("full")), StopRule),
        ((LinkError("gone"), OSError("failed")), OSError),
        ((LinkError("gone"), sqlite3.DatabaseError("malformed")), sqlite3.DatabaseError),
        ((StopRule("full"), ValueError("a bug")), ValueError),
        ((StopRule("full"), ValueError("a bug"), KeyboardInterrupt()), KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
async def test_of_simultaneous_errors_the_gravest_is_raised(
    errors: tuple[BaseException, ...], matters: type[BaseException], turned: bool
) -> None:
    group = BaseExceptionGroup("at once", list(reversed(errors) if turned else errors))
    assert isinstance(leaf(group), matters)
