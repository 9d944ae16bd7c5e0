"""The figures for Prometheus: the text follows the format, whatever the names, and equals the status."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from i2core.history.retention.figures import Figures
from i2core.history.retention.objective import Objective
from i2core.node.daemon.metrics import exposition
from i2core.rule.backup.entry.passes import HistoryFigures
from i2core.rule.life.status import RuleStatus, State

NODE = {"name": "web1", "version": "0.1.0", "uptime_seconds": 12.5}
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')

Sample = tuple[dict[str, str], float]


def parse(text: str) -> tuple[dict[str, str], dict[str, list[Sample]]]:
    """Types and samples of an exposition, as a strict reader of the format has them."""
    assert text.endswith("\n")
    kinds: dict[str, str] = {}
    samples: dict[str, list[Sample]] = {}
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# "):
            word, name, rest = line[2:].split(" ", 2)
            assert word in ("HELP", "TYPE")
            assert name not in samples, "all lines of a metric stand together"
            if word == "TYPE":
                assert name not in kinds
                kinds[name] = rest
            continue
        found = SAMPLE.fullmatch(line)
        assert found, line
        name, labels, value = found.groups()
        pairs = LABEL.findall(labels or "")
        assert "".join(f'{key}="{text}",' for key, text in pairs) == (labels + "," if labels else "")
        unescaped = {key: re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text) for key, text in pairs}
        assert name in kinds, "a type comes before its samples"
        samples.setdefault(name, []).append((unescaped, float(value)))
    return kinds, samples


def sent(name: str = "data1", **changes: Any) -> dict[str, Any]:
    """A rule's document."""
    status = RuleStatus(name=name, state=State.REPLICATING, seq=12, durable_seq=9, wire_bytes=1000, mirrored=True)
    rpo = {"rpo_seconds": None, "rpo_actual_seconds": 0.25, "rpo_broken": False}
    return status.as_json() | rpo | {"role": "work", "peer": "bak1"} | changes


def test_a_node_and_its_rules() -> None:
    kinds, samples = parse(exposition(NODE, [sent(), sent("data2", state="stopped", code=3606, rpo_seconds=30.0)]))
    labels = [{"rule": name, "role": "work", "peer": "bak1"} for name in ("data1", "data2")]
    assert samples["i2_up"] == [({}, 1.0)]
    assert samples["i2_uptime_seconds"] == [({}, 12.5)]
    assert samples["i2_node_info"] == [({"name": "web1", "version": "0.1.0"}, 1.0)]
    assert samples["i2_rule_durable_seq"] == [(labels[0], 9.0), (labels[1], 9.0)]
    assert samples["i2_rule_code"] == [(labels[0], 0.0), (labels[1], 3606.0)]
    assert samples["i2_rule_rpo_seconds"] == [(labels[1], 30.0)]
    assert samples["i2_rule_rpo_broken"] == [(labels[0], 0.0), (labels[1], 0.0)]
    assert samples["i2_rule_mirror_percent"][0] == (labels[0], 100.0)
    in_force = {pair[0]["rule"]: pair[0]["state"] for pair in samples["i2_rule_state"] if pair[1] == 1}
    assert in_force == {"data1": "replicating", "data2": "stopped"}
    assert all(kind == ("counter" if name.endswith("_total") else "gauge") for name, kind in kinds.items())


def test_figures_of_the_other_node_are_left_out() -> None:
    received = {"name": "data1", "role": "backup", "peer": "web1", "state": "held", "code": 3603, "lag_seconds": None}
    _, samples = parse(exposition(NODE, [received]))
    assert "i2_rule_lag_seconds" not in samples
    assert ({"rule": "data1", "role": "backup", "peer": "web1", "state": "held"}, 1.0) in samples["i2_rule_state"]


def test_each_state_of_a_role_has_a_series() -> None:
    received = {"name": "data1", "role": "backup", "peer": "web1", "state": "receiving", "code": None}
    _, samples = parse(exposition(NODE, [sent(), received]))
    states: dict[str, dict[str, float]] = {"work": {}, "backup": {}}
    for labels, value in samples["i2_rule_state"]:
        states[labels["role"]][labels["state"]] = value
    assert states["backup"] == {"receiving": 1, "waiting": 0, "held": 0, "stopped": 0}
    assert set(states["work"]) == {state.value for state in State}
    assert sum(states["work"].values()) == 1


def test_the_history_of_a_received_rule() -> None:
    kept = Figures(
        objective=Objective(promised_from_ns=10**9, kept_from_ns=2 * 10**9, missing_days=(5, 6)),
        oldest_ns=10**8,
        lock_s=3600.0,
        full_in_s=None,
        used_bytes=7,
    )
    history = HistoryFigures(kept, 12.4).as_json()
    received = {"name": "data1", "role": "backup", "peer": "web1", "state": "waiting", "code": None, "history": history}
    _, samples = parse(exposition(NODE, [sent(), received]))
    found = {name: samples[0][1] for name, samples in samples.items() if name.startswith("i2_history_")}
    assert found.pop("i2_history_objective_met") == 0
    assert found.pop("i2_history_missing_days") == 2
    assert found.pop("i2_history_kept_from_seconds") == 2
    assert found.pop("i2_history_next_pass_seconds") == 12
    assert "i2_history_full_in_seconds" not in found
    assert all(len(samples[name]) == 1 for name in found)


def test_a_node_without_rules() -> None:
    assert set(parse(exposition(NODE, []))[1]) == {"i2_up", "i2_uptime_seconds", "i2_node_info"}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_name_can_be_read_back(name: str) -> None:
    _, samples = parse(exposition(NODE, [sent(name)]))
    assert samples["i2_rule_seq"][0][0]["rule"] == name


def test_a_name_that_is_no_text_is_escaped() -> None:
    _, samples = parse(exposition(NODE, [sent("a\udcff")]))
    assert samples["i2_rule_seq"][0][0]["rule"] == "a\\udcff"
