"""One line of the log, as JSON for programs and as text for people."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from i2core.api import Code
from i2core.config.words import Language
from i2core.rule.life.report import Line, report_fields
from i2core.wire.free_text import shortened


def entry_of(cursor: int, now_s: float, rule: str, code: Code | None, line: str) -> dict[str, Any]:
    """The entry for a program: ``{"cursor", "time", "rule", "state", …, "line"}``, with the fields of `report_fields`
    in between. Texts that are too long are shortened.

    `now_s` is Unix time; ``"time"`` is UTC to the millisecond, as ISO 8601 has it. ``"state"`` is null, except in the
    line of a change of state."""
    parts = line if isinstance(line, Line) else Line(line)
    text = shortened(str(line))
    cause = shortened(parts.cause) or (text if code is None else "")
    obj, next_step = shortened(parts.obj), shortened(parts.next_step)
    time = datetime.datetime.fromtimestamp(now_s, datetime.UTC).isoformat(timespec="milliseconds")
    return {
        "cursor": cursor,
        "time": time.replace("+00:00", "Z"),
        "rule": rule,
        "state": parts.state or None,
        **report_fields(code, obj=obj, cause=cause, next_step=next_step),
        "line": text,
    }


def human(entry: Mapping[str, Any], language: Language) -> str:
    """The entry as one line for a terminal: unprintable characters are escaped, so that no name can forge a line."""
    rule, code, line = entry["rule"], entry["code"], entry["line"]
    words = [f"{entry['time'][:19]}Z"]
    if rule:
        words.append(f"{rule}:")
    if code is not None and not line.endswith(f"[{code}]"):
        words.append(f"[{code}]")
    words.append(f"{entry['text_zh']}：{line}" if language == "zh" and code is not None else line)
    step = entry["next_step_zh" if language == "zh" else "next_step"]
    if entry["level"] != "info" and step and step not in line:
        words.append(f"（下一步：{step}）" if language == "zh" else f"(next: {step})")
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in " ".join(words)
    )
