"""A node's metrics for Prometheus, in its text exposition format (version 0.0.4).

They are made from the documents of `i2 rule status --json`, so that both always agree. Unknown values are omitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from i2core.rule.life.status import Received, State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Figure(NamedTuple):
    """One metric of a rule, from one key of its document."""

    key: str
    name: str
    kind: str
    help: str


_FIGURES = (
    _Figure("percent", "i2_rule_mirror_percent", "gauge", "Progress of the mirror, 0 to 100."),
    _Figure("code", "i2_rule_code", "gauge", "Code of the rule's problem; 0: none."),
    _Figure("seq", "i2_rule_seq", "gauge", "Last record sent, or applied on a backup node."),
    _Figure("durable_seq", "i2_rule_durable_seq", "gauge", "Last record that is durable on the replica."),
    _Figure("lag_seconds", "i2_rule_lag_seconds", "gauge", "Age of the oldest change that is not durable."),
    _Figure("lag_bytes", "i2_rule_lag_bytes", "gauge", "Encoded bytes that are not durable yet."),
    _Figure("spool_bytes", "i2_rule_spool_bytes", "gauge", "Bytes waiting on the work node's disk."),
    _Figure("sent_files", "i2_rule_sent_files_total", "counter", "Objects sent in this run."),
    _Figure("sent_bytes", "i2_rule_sent_bytes_total", "counter", "Content bytes sent in this run, before codecs."),
    _Figure("wire_bytes", "i2_rule_wire_bytes_total", "counter", "Bytes on the link in this run, both ways."),
    _Figure("captured", "i2_rule_captured_total", "counter", "Changes captured in this run."),
    _Figure("skipped", "i2_rule_skipped_total", "counter", "Objects skipped in this run."),
    _Figure("doubtful", "i2_rule_doubtful_objects", "gauge", "Unverified objects: they may differ from the source."),
    _Figure("held", "i2_rule_held", "gauge", "1: a mass delete is held until released."),
    _Figure("applied_records", "i2_rule_applied_records_total", "counter", "Records applied since the node started."),
    _Figure("applied_bytes", "i2_rule_applied_bytes_total", "counter", "Bytes applied since the node started."),
    _Figure("orphans", "i2_rule_orphans", "gauge", "Orphans that the last mirror found."),
    _Figure("rpo_seconds", "i2_rule_rpo_seconds", "gauge", "Recovery point objective of the rule."),
    _Figure("rpo_actual_seconds", "i2_rule_rpo_actual_seconds", "gauge", "Age of the recovery point."),
    _Figure("rpo_broken", "i2_rule_rpo_broken", "gauge", "1: the objective is broken."),
    _Figure("held_back", "i2_rule_held_back_files", "gauge", "Files of the source whose content is not sent."),
    _Figure("proved_at", "i2_rule_proved_timestamp_seconds", "gauge", "All was proved equal after this time."),
    _Figure("bandwidth_bps", "i2_rule_bandwidth_limit_bits_per_second", "gauge", "Limit in force now."),
)
_HISTORY_FIGURES = (
    _Figure("objective_met", "i2_history_objective_met", "gauge", "1: all that is promised of the history is kept."),
    _Figure("promised_from", "i2_history_promised_from_seconds", "gauge", "Every moment since is promised; Unix time."),
    _Figure("kept_from", "i2_history_kept_from_seconds", "gauge", "Every moment since is kept; Unix time."),
    _Figure("missing_days", "i2_history_missing_days", "gauge", "Promised days without a state."),
    _Figure("oldest", "i2_history_oldest_seconds", "gauge", "The oldest moment that is kept; Unix time."),
    _Figure("lock_seconds", "i2_history_lock_seconds", "gauge", "Age below which nothing may be given up."),
    _Figure("full_in_seconds", "i2_history_full_in_seconds", "gauge", "When its disk is full, as it grows now."),
    _Figure("used_bytes", "i2_history_used_bytes", "gauge", "Room that the history takes."),
    _Figure("next_pass_seconds", "i2_history_next_pass_seconds", "gauge", "When it is looked through next."),
)
"""From the document `history` of a rule that has one."""


_STATES = {
    "work": [state.value for state in State],
    "backup": [state.value for state in Received],
}


def exposition(node: Mapping[str, Any], rules: Sequence[Mapping[str, Any]]) -> str:
    """The text for a node's status and its rules, as the control API shows them."""
    return "\n".join(_lines(node, rules)) + "\n"


def _lines(node: Mapping[str, Any], rules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from _head("i2_up", "gauge", "1: the node runs.")
    yield "i2_up 1"
    yield from _head("i2_uptime_seconds", "gauge", "Seconds since the node started.")
    yield f"i2_uptime_seconds {_number(node['uptime_seconds'])}"
    yield from _head("i2_node_info", "gauge", "Name and version of the node; always 1.")
    yield f"i2_node_info{_labels(name=node['name'], version=node['version'])} 1"
    if not rules:
        return
    yield from _head("i2_rule_state", "gauge", "1 for the state that the rule is in, 0 for the others of its role.")
    for rule in rules:
        for state in sorted({*_STATES[rule["role"]], rule["state"]}):
            yield f"i2_rule_state{_labels(**_identity(rule), state=state)} {int(rule['state'] == state)}"
    own = [(_identity(rule), rule) for rule in rules]
    histories = [(_identity(rule), rule["history"]) for rule in rules if rule.get("history") is not None]
    for figures, documents in ((_FIGURES, own), (_HISTORY_FIGURES, histories)):
        for figure in figures:
            known = [
                (identity, found) for identity, found in documents if figure.key in found and _is_known(figure, found)
            ]
            if known:
                yield from _head(figure.name, figure.kind, figure.help)
            for identity, found in known:
                yield f"{figure.name}{_labels(**identity)} {_number(found[figure.key])}"


def _is_known(figure: _Figure, found: Mapping[str, Any]) -> bool:
    return figure.key == "code" or found[figure.key] is not None


def _identity(rule: Mapping[str, Any]) -> dict[str, str]:
    """The labels of a rule. Two work nodes may send rules of one name."""
    return {"rule": rule["name"], "role": rule["role"], "peer": rule.get("peer") or ""}


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _labels(**labels: str) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    text = value.encode("utf-8", "backslashreplace").decode()
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float | bool | None) -> str:
    return "0" if value is None else repr(int(value) if isinstance(value, bool) else value)
