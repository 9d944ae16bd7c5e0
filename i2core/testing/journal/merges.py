"""Merging, dropping, leases, room."""

from __future__ import annotations

import trio

from i2core.api.journal import Journal, SegmentGone
from i2core.testing.journal.trial import Trial, payloads, payloads_of, prove


async def _filled(trial: Trial, journal: Journal, segments: int = 4) -> list[int]:
    """Segments with two frames each, and an empty one; their numbers without that one."""
    for number in range(segments):
        await journal.append(trial.group(b"%d" % number, b"%d again" % number))
        await journal.roll()
    return [segment.number for segment in journal.segments[:-1]]


async def merged(trial: Trial) -> None:
    """A merged segment takes the place of its run, with the note, and is sealed by the chain."""
    async with trial.open() as journal:
        run = await _filled(trial, journal)
        old = journal.segments
        seq = trial.seq
        trial.seq, trial.time_ns = 1, 10**18
        async with journal.merge(run[1:3]) as merge:
            placed = await merge.write(trial.group(b"what stays"))
            placed += await merge.write(trial.group(b"of both"))
            trial.seq, trial.time_ns = seq, trial.time_ns + 1000
            await journal.append(trial.group(b"meanwhile"))
            segment = await merge.commit(b"index 7")
        assert journal.note == b"index 7"
        assert journal.segments[1] == segment
        assert (segment.merged, segment.before, segment.after) == (True, old[1].before, old[2].after)
        assert (segment.first_seq, segment.next_seq) == (old[1].first_seq, old[2].next_seq)
        assert [frame.placed for frame in await journal.read(placed[0].at, 1 << 20)] == placed
        assert segment.number not in run
        for number in run[1:3]:
            await _gone(journal, number)
        expected = [b"0", b"0 again", b"what stays", b"of both", b"3", b"3 again", b"meanwhile"]
        assert await payloads(journal) == expected
        await prove(journal, [journal.tip])
        segments = journal.segments
    async with trial.open() as journal:
        assert journal.segments == segments
        assert (await payloads(journal), journal.note) == (expected, b"index 7")
        await prove(journal)


async def merged_again(trial: Trial) -> None:
    """Seals outlive the merging of the frames that they stood in."""
    async with trial.open() as journal:
        run = await _filled(trial, journal, 3)
        async with journal.merge(run[:2]) as merge:
            first = await merge.commit()
        await journal.append(trial.group(b"more"))
        await journal.roll()
        later = [segment.number for segment in journal.segments[1:-1]]
        async with journal.merge(later) as merge:
            await merge.commit()
        await prove(journal)
        both = [segment.number for segment in journal.segments[:-1]]
        assert both[0] == first.number
        async with journal.merge(both) as merge:
            await merge.commit()
        await journal.roll()
        await prove(journal)
        assert await payloads(journal) == []
    async with trial.open() as journal:
        await prove(journal)


async def merge_given_up(trial: Trial) -> None:
    """A merge that is not committed leaves no trace."""
    async with trial.open() as journal:
        run = await _filled(trial, journal)
        before = journal.segments, journal.tip, await journal.space()
        async with journal.merge(run) as merge:
            await merge.write([])
        with trio.CancelScope() as scope:
            async with journal.merge(run) as merge:
                await merge.write([])
                scope.cancel()
                await trio.lowlevel.checkpoint()
        now = await journal.space()
        assert (journal.segments, journal.tip, now.used_bytes) == (*before[:2], before[2].used_bytes)
    async with trial.open() as journal:
        assert journal.segments == before[0]


async def merge_of_what_is_gone(trial: Trial) -> None:
    """A merge whose run was dropped meanwhile is refused; so are runs that are none."""
    async with trial.open() as journal:
        run = await _filled(trial, journal)
        for wrong in ([run[0], run[2]], [*run, journal.segments[-1].number], [], run[1::-1]):
            try:
                async with journal.merge(wrong):
                    raise AssertionError(f"no run, and merged: {wrong}")
            except ValueError:
                pass
        for gone in ([10**9], [run[0], 10**9]):
            try:
                async with journal.merge(gone):
                    raise AssertionError("merged what is not there")
            except SegmentGone:
                pass
        async with journal.merge(run[:2]) as merge:
            try:
                async with journal.merge(run[2:]):
                    raise AssertionError("two merges at once")
            except ValueError:
                pass
            await journal.drop(run[:1])
            try:
                await merge.commit()
            except SegmentGone:
                pass
            else:
                raise AssertionError("merged what was dropped")
        assert [segment.number for segment in journal.segments[:-1]] == run[1:]
        await prove(journal)


async def dropped(trial: Trial) -> None:
    """The oldest segments can be given up, at once; what is leased stays readable until then."""
    async with trial.open() as journal:
        run = await _filled(trial, journal)
        for wrong in (run[1:2], [*run, journal.segments[-1].number]):
            try:
                await journal.drop(wrong)
            except ValueError:
                continue
            raise AssertionError(f"dropped, and not the oldest: {wrong}")
        used = (await journal.space()).used_bytes
        async with journal.lease(run[:1]), journal.lease(run[:1]):
            await journal.drop(run[:2], b"note")
            await _gone(journal, run[1])
            assert await payloads_of(journal, run[0]) == [b"0", b"0 again"]
            try:
                async with journal.lease(run[1:2]):
                    raise AssertionError("leased what was dropped")
            except SegmentGone:
                pass
        await _gone(journal, run[0])
        assert (await journal.space()).used_bytes < used
        assert await payloads(journal) == [b"2", b"2 again", b"3", b"3 again"]
        assert journal.note == b"note"
        await prove(journal)
    async with trial.open() as journal:
        assert [segment.number for segment in journal.segments[:-1]] == run[2:]
        await prove(journal)


async def room(trial: Trial) -> None:
    """Space is told, and the reserve can be used and filled up again."""
    async with trial.open() as journal:
        assert (await journal.space()).reserve_bytes == trial.context.reserve_bytes
        await journal.use_reserve()
        assert (await journal.space()).reserve_bytes == 0
        assert await journal.restore_reserve()
        space = await journal.space()
        assert space.reserve_bytes == trial.context.reserve_bytes
        assert 0 <= space.used_bytes <= space.total_bytes
        await journal.append(trial.group(b"x" * 3000))
        assert (await journal.space()).used_bytes >= space.used_bytes + 3000


async def _gone(journal: Journal, number: int) -> None:
    try:
        await journal.inspect(number)
    except SegmentGone:
        return
    raise AssertionError(f"segment {number} is still there")


STEPS = (merged, merged_again, merge_given_up, merge_of_what_is_gone, dropped, room)
