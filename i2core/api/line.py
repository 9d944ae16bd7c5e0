"""A report about a rule or a node: one line of text that still knows its parts.

A line takes many ways before it is written: through a driver's `context.say`, a session's callbacks, a pipe from a
child process, a list in a test. All of them carry text. So `Line` is a `str`; code that does not know the parts passes
it on, and the logbook finds them again."""

from __future__ import annotations

from typing import Self

from i2core.api.codes import Code
from i2core.api.errors import I2Error


class Line(str):
    """A line with its parts; each may be empty. `obj` is what it is about, `state` the state that a rule has come to.
    `peer` is the peer whose session it is about, on the node that serves the session: the logbook limits the lines of
    each. `code` is for callers that have no other way to give one: a driver's `context.say` takes a line alone."""

    __slots__ = ("cause", "code", "next_step", "obj", "peer", "state")

    code: Code | None
    obj: str
    cause: str
    next_step: str
    state: str
    peer: str

    def __new__(
        cls,
        text: str,
        *,
        code: Code | None = None,
        obj: str = "",
        cause: str = "",
        next_step: str = "",
        state: str = "",
        peer: str = "",
    ) -> Self:
        """The line as a person reads it, then what it is made of."""
        line = super().__new__(cls, text)
        line.code, line.obj, line.cause, line.next_step, line.state = code, obj, cause, next_step, state
        line.peer = peer
        return line

    @classmethod
    def of(cls, error: I2Error, before: str = "", *, state: str = "") -> Self:
        """An error's line, with `before` in front of it."""
        text = f"{before}{error}"
        return cls(text, code=error.code, obj=error.obj, cause=error.cause, next_step=error.next_step, state=state)
