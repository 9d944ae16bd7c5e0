"""Every error in a rule gets a code that an administrator can look up."""

from __future__ import annotations

import threading

import pytest

from i2core.api import Code, StopRule
from i2core.node.daemon.faults import as_i2error, error_json


def test_an_error_with_a_code_stays_as_it_is() -> None:
    error = StopRule("no space", code=Code.REPLICA_FULL)
    assert as_i2error(error) is error
    assert as_i2error(ExceptionGroup("", [error])) is error


def test_an_error_without_a_code_is_an_internal_error() -> None:
    assert as_i2error(ZeroDivisionError("ours")).code is Code.INTERNAL
    known = as_i2error(FileNotFoundError(2, "No such file or directory", "/x"))
    assert (known.code, known.obj, known.cause) == (Code.INTERNAL, "/x", "No such file or directory")


def test_a_thread_that_cannot_be_started() -> None:
    before = threading.stack_size(1 << 46)  # no address space has room for it
    try:
        with pytest.raises(RuntimeError) as refused:
            threading.Thread(target=print).start()
    finally:
        threading.stack_size(before)
    known = as_i2error(refused.value)
    assert known.code is Code.THREAD
    assert error_json(known)["next"] == Code.THREAD.text.next_en
