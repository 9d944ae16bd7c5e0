"""Bodies of questions to the control API: taken as they are written, or refused."""

from __future__ import annotations

import json

import pytest

from i2core.api import UsageError
from i2core.node.daemon.answers import body_of
from i2core.node.daemon.recovery_api import Asked


def _body(**asked: object) -> bytes:
    return json.dumps({"to": "/to", **asked}).encode()


def test_what_can_be_asked() -> None:
    asked = body_of(_body(paths=["a", "b\udcff"], at_seq=7, dry_run=True, extra="aside", at=None), Asked)
    assert (asked.paths, asked.at_seq, asked.dry_run, asked.extra.value) == (["a", "b\udcff"], 7, True, "aside")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"[" * 100_000,
        _body(backup=5),
        _body(stop_rule="yes"),
        _body(unknown=1),
        _body(to=5),
        _body(to="/a\0b"),
        _body(to="/\ud800"),
        _body(paths="abc"),
        _body(paths=[5]),
        _body(paths={"a": 1}),
        _body(dry_run="no"),
        _body(dry_run=0),
        _body(prove=None),
        _body(at_seq="5"),
        _body(at_seq=2.5),
        _body(at_seq=True),
        _body(at=5),
        _body(extra="burn"),
        _body(extra=[]),
    ],
)
def test_what_is_refused(body: bytes) -> None:
    with pytest.raises(UsageError, match="cannot be understood"):
        body_of(body, Asked)
