"""`check_sink`: the contract of every sink. The in-memory twin is `MemorySink`.

The check uses the sink only through its contract. Changes of a replica on disk by others between two batches (a symlink
replaces a directory, a FIFO replaces a file) belong into the tests of the driver.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import trio

from i2core.api import DriverSpec, Sink, SinkContext, UsageError
from i2core.config.options import structure_options
from i2core.testing.memory_disk import MemoryDisk
from i2core.testing.memory_sink import MemorySink, memory_sink
from i2core.testing.picture import picture
from i2core.testing.sink import flags, names, objects, staging
from i2core.testing.sink.keeping import check_keeping
from i2core.testing.sink.trial import Trial

__all__ = ["MemoryDisk", "MemorySink", "check_sink", "memory_sink"]

_STEPS = (*objects.STEPS, *staging.STEPS, *names.STEPS, *flags.STEPS)


async def check_sink(
    spec: DriverSpec, options: Mapping[str, Any] | None = None, *, workdir: Path | None = None
) -> None:
    """Checks the contract of a sink, and of its replica for a history if it has one. `options` as in a config file;
    None takes ``spec.example``.

    Works beneath `workdir`, and leaves nothing there; None: in a temporary directory.

    Raises:
        AssertionError: the sink breaks the contract; the message says where.
        UsageError: the options do not fit the driver.
    """
    config = structure_options(spec, spec.example if options is None else options)
    top = Path(tempfile.mkdtemp(prefix="check-sink-", dir=workdir))
    try:
        for number, step in enumerate(_STEPS):
            allowed = top / str(number)
            outside = top / f"outside-{number}"
            await trio.Path(allowed).mkdir()
            await trio.Path(outside).mkdir()
            root = os.fsencode(allowed / "replica")
            context = SinkContext(roots=(root,), allowed=(os.fsencode(allowed),), flags=step in flags.STEPS)
            async with spec.open(config, context) as sink:
                assert isinstance(sink, Sink), f"open gave {type(sink).__name__}, which is not a Sink"
                await step(Trial(sink, outside))
                await sink.flush()
                before, identities = await picture(sink), sink.identities
            known = dict(zip((root,), identities, strict=False))
            async with spec.open(config, attrs.evolve(context, known=known)) as sink:
                assert await picture(sink) == before, "the tree differs after the sink was opened again"
                assert list(sink.identities) == list(identities), (
                    "the root has another identity after the sink was opened again"
                )
                assert not sink.exchanged, "the root is reported as another directory, which it is not"
            assert not os.listdir(outside), f"{step.__name__}: something was created outside of the roots"
        await _refuses_outside(spec, config, top)
        if spec.replica is not None:
            await check_keeping(spec, config, top)
    finally:
        await trio.to_thread.run_sync(shutil.rmtree, top)


async def _refuses_outside(spec: DriverSpec, config: object, top: Path) -> None:
    for root in (top / "elsewhere", top / "allowed-not", top / "allowed" / ".." / "up"):
        context = SinkContext(roots=(os.fsencode(root),), allowed=(os.fsencode(top / "allowed"),))
        try:
            async with spec.open(config, context):
                pass
        except UsageError:
            continue
        raise AssertionError(f"a root outside of the allowed directories was opened: {root}")
