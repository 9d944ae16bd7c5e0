"""Random histories against an oracle: who looks again at each named place, and nowhere else, ends with the truth."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from i2_capture_fanotify.fanotify import DFID_NAME, DFID_NAME_TARGET, Group

from i2core.testing.file_ops import VERBS

pytestmark = pytest.mark.root

paths = st.builds(
    lambda top, parts: Path(top, *parts),
    st.sampled_from(["root0", "root1", "outside"]),
    st.lists(st.sampled_from("abc"), min_size=1, max_size=3),
)
steps = st.one_of(
    st.tuples(st.just("write"), paths, st.binary(max_size=3)),
    st.tuples(st.just("append"), paths, st.just(b"+")),
    st.tuples(st.just("chmod"), paths, st.sampled_from([0o700, 0o755])),
    st.tuples(st.just("makedirs"), paths),
    st.tuples(st.just("lone_tree"), paths, st.just(3)),
    st.tuples(st.sampled_from(["rename", "exchange"]), paths, paths),
    st.tuples(st.sampled_from(["unlink", "rmtree"]), paths),
    st.just(("hear",)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@pytest.mark.parametrize("reports", [DFID_NAME_TARGET, DFID_NAME])
@pytest.mark.parametrize("limit", [16, 65_536])
@given(history=st.lists(steps, min_size=5, max_size=60))
async def test_hints_lead_to_the_truth(
    watch: Callable[..., Any], reports: int, limit: int, history: list[tuple[Any, ...]]
) -> None:
    with tempfile.TemporaryDirectory() as made:
        top = Path(os.path.realpath(made))
        for name in ("root0", "root1", "outside"):
            (top / name).mkdir()
        async with watch(top / "root0", top / "root1", limit=limit, group=Group(reports=(reports,))) as ears:
            for verb, *arguments in history:
                if verb == "hear":
                    await ears.drain()
                    assert ears.tree.differences() == []
                    continue
                absolute = [bytes(top / each) if isinstance(each, Path) else each for each in arguments]
                with suppress(OSError):
                    VERBS[verb](*absolute)
            await ears.drain()
            assert ears.tree.differences() == []
