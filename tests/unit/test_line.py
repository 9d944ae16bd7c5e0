"""A log line keeps its parts, in both languages, however it is passed on."""

from __future__ import annotations

import pytest

from i2core.api import Code, StopRule
from i2core.config.words import bilingual
from i2core.rule.life.report import Line, code_in, report_fields


def test_a_line_is_text_and_knows_its_parts() -> None:
    error = StopRule("no space", code=Code.REPLICA_FULL, obj="/r/x", next_step="free some")
    line = Line.of(error, "stopped: ", state="stopped")
    assert line == "stopped: /r/x: no space (free some) [3606]"
    assert (line.obj, line.cause, line.next_step, line.state) == ("/r/x", "no space", "free some", "stopped")
    assert (code_in(line), code_in("text"), code_in(Line("text"))) == (Code.REPLICA_FULL, None, None)


def test_the_texts_of_the_code_replace_missing_ones() -> None:
    text = Code.REPLICA_FULL.text
    found = report_fields(Code.REPLICA_FULL, obj="/r")
    assert found == {
        "code": 3606,
        "level": "error",
        "text": text.en,
        "text_zh": text.zh,
        "object": "/r",
        "cause": text.cause_en,
        "cause_zh": text.cause_zh,
        "next_step": text.next_en,
        "next_step_zh": text.next_zh,
    }


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_line_in_both_languages_is_reported_in_both(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2_LANG", language)
    step = bilingual("do this", "做这个")
    assert step == {"en": "do this", "zh": "做这个"}[language]
    found = report_fields(Code.USAGE, cause="that", next_step=step)
    assert (found["cause"], found["cause_zh"]) == ("that", "用法错误：that")
    assert (found["next_step"], found["next_step_zh"]) == ("do this", "做这个")


def test_without_a_code_there_is_no_error() -> None:
    found = report_fields(None, cause="up")
    assert (found["code"], found["level"], found["next_step"], found["next_step_zh"]) == (None, "info", "", "")
    assert (found["cause"], found["cause_zh"]) == ("up", "up")
