"""A process that appends, merges, drops and cuts is killed at random times: all that it had promised is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from random import Random

import pytest

from i2core.testing.journal.trial import Trial, payloads, prove

_WRITER = """
import sys
from random import Random
import trio
from i2_store_cdp.plugin import open_cdp
from i2core.api import NoConfig
from i2core.api.journal import Draft, JournalContext, Position
from i2core.testing.journal.trial import Trial

async def main(directory, seed):
    chance = Random(seed)
    context = JournalContext(directory=directory.encode(), segment_bytes=3000, reserve_bytes=0)
    trial = Trial(None, None, context)
    async with open_cdp(NoConfig(), context) as journal:
        trial.seq, trial.time_ns = journal.tip.next_seq or 1, journal.segments[-1].applied_ns or 10**18
        print("open", trial.seq, flush=True)
        while True:
            group = [trial.draft(b"%d" % trial.seq * chance.choice((1, 300))) for _ in range(chance.randint(1, 4))]
            await journal.append(group)
            print("durable", trial.seq, flush=True)
            if chance.random() < 0.1 and len(journal.segments) > 3:
                run = [segment.number for segment in journal.segments[:2]]
                old = [frame for number in run for frame in await journal.read(Position(number, 0), 1 << 30)]
                async with journal.merge(run) as merge:
                    await merge.write([Draft(frame.header, frame.payload) for frame in old])
                    await merge.commit(b"%d" % trial.seq)
            if chance.random() < 0.05:
                await journal.cut(journal.end)

trio.run(main, sys.argv[1], int(sys.argv[2]))
"""


@pytest.mark.slow
async def test_killed_at_random_times(trial: Trial) -> None:
    chance = Random(7)  # noqa: S311
    promised = 1
    for life in range(40):
        command = [sys.executable, "-c", _WRITER, os.fsdecode(trial.context.directory), str(life)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:  # noqa: ASYNC220, S603
            assert writer.stdout is not None
            for _ in range(chance.randint(1, 60)):
                word, seq = writer.stdout.readline().split()
                assert word == b"durable" or int(seq) >= promised, "opened with less than was promised"
                promised = max(promised, int(seq))
            writer.send_signal(signal.SIGKILL)
            promised = max([promised, *(int(line.split()[1]) for line in writer.stdout if line.endswith(b"\n"))])
        async with trial.open() as journal:
            found = await payloads(journal)
            await prove(journal)
        seqs = [int(payload[: len(str(index + 1))]) for index, payload in enumerate(found)]
        assert seqs == list(range(1, len(seqs) + 1)), "a frame is missing, twice there or another one"
        assert len(seqs) >= promised - 1, "less than was promised"
