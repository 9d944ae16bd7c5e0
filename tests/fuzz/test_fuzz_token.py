"""Any text at all is a token or one clear error; any line is a question or a closed connection."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from i2core.api import ProtocolError, UsageError
from i2core.node.control.question import QUESTION_BYTES, Question
from i2core.node.pairing.token import PREFIX, Token

from .mutation import corpus, mutated

TOKENS = corpus("token")


def parse(text: str) -> None:
    try:
        token = Token.parse(text)
    except UsageError:
        return
    assert Token.parse(token.text()) == token


@given(mutated(TOKENS) | st.binary(max_size=300))
def test_any_text(text: bytes) -> None:
    parse(text.decode(errors="surrogateescape"))


@given(mutated([base64.urlsafe_b64decode(token.strip()[len(PREFIX) :] + b"==") for token in TOKENS]))
def test_any_content(raw: bytes) -> None:
    parse(PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("="))


QUESTIONS = [
    b'{"ask": "enrol", "name": "web1", "secret": "00112233445566778899aabbccddeeff"}\n',
    b'{"ask": "rules"}\n',
]


@given(mutated(QUESTIONS) | st.binary(max_size=QUESTION_BYTES))
def test_any_question(line: bytes) -> None:
    try:
        question = Question.parse(line)
    except ProtocolError:
        return
    assert (type(question.ask), type(question.name), type(question.secret)) == (str, str, bytes)
    question.name.encode()
