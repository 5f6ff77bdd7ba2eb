"""Write the Grafana dashboard of the chart: the questions on-call asks, in the order they are asked."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

PATH = Path(__file__).resolve().parent.parent / "helm/memsidecar/dashboards/memsidecar.json"

_HERE = 'namespace="$namespace", job="$job"'
_FAULTS = ', code=~"INTERNAL|UNKNOWN|UNAVAILABLE|DATA_LOSS|DEADLINE_EXCEEDED"'
_NOT_OK = ', code!="OK"'
_WIDTH = 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}

Panel = dict[str, Any]


def _rate(metric: str, labels: str = "") -> str:
    return f"rate({metric}{{{_HERE}{labels}}}[$__rate_interval])"


def _quantile(quantile: float, by: str, metric: str, labels: str = "") -> str:
    return f"histogram_quantile({quantile}, sum by ({by}, le) ({_rate(metric + '_bucket', labels)}))"


def _panel(title: str, kind: str, unit: str, queries: dict[str, str], **options: Any) -> Panel:
    return {
        "title": title,
        "type": kind,
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {"unit": unit, "min": 0, **options.pop("defaults", {})},
            "overrides": [],
        },
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _SOURCE,
                "expr": expression,
                "legendFormat": legend,
            }
            for number, (legend, expression) in enumerate(queries.items())
        ],
    }


def _graph(title: str, unit: str, queries: dict[str, str]) -> Panel:
    return _panel(title, "timeseries", unit, queries, tooltip={"mode": "multi", "sort": "desc"})


def _stack(title: str, unit: str, queries: dict[str, str]) -> Panel:
    stacked = {"custom": {"stacking": {"mode": "normal"}, "fillOpacity": 40}}
    return _panel(title, "timeseries", unit, queries, tooltip={"mode": "multi"}, defaults=stacked)


def _number(title: str, unit: str, expression: str, warn: float, alarm: float) -> Panel:
    steps = [
        {"color": "green", "value": None},
        {"color": "orange", "value": warn},
        {"color": "red", "value": alarm},
    ]
    thresholds = {"thresholds": {"mode": "absolute", "steps": steps}}
    return _panel(title, "stat", unit, {"": expression}, colorMode="background", defaults=thresholds)


def _rows() -> dict[str, list[Panel]]:
    calls, duration = "memsidecar_calls_total", "memsidecar_call_duration_seconds"
    stage = "memsidecar_stage_duration_seconds"
    interactive = ', lane="interactive"'
    return {
        "Is it well?": [
            _number(
                "Replicas not serving", "none", f"sum(1 - memsidecar_serving{{{_HERE}}}) or vector(0)", 1, 2
            ),
            _number(
                "Calls that fail",
                "percentunit",
                f"sum({_rate(calls, _FAULTS)}) / sum({_rate(calls)})",
                0.001,
                0.01,
            ),
            _number(
                "p99 of AppendTurn",
                "s",
                _quantile(0.99, "method", duration, ', method="AppendTurn"'),
                0.1,
                0.5,
            ),
            _number(
                "p99 of RecallSimilar",
                "s",
                _quantile(0.99, "method", duration, ', method="RecallSimilar"'),
                0.1,
                0.5,
            ),
            _number(
                "Oldest document waiting", "s", f"max(memsidecar_ingestion_lag_seconds{{{_HERE}}})", 300, 900
            ),
        ],
        "Who calls, and what do they get?": [
            _graph("Calls by method", "reqps", {"{{method}}": f"sum by (method) ({_rate(calls)})"}),
            _graph(
                "Calls that did not end well, by code",
                "reqps",
                {"{{method}} {{code}}": f"sum by (method, code) ({_rate(calls, _NOT_OK)})"},
            ),
            _graph(
                "Duration of the calls that agents wait for",
                "s",
                {
                    f"p{round(q * 100)} {{{{method}}}}": _quantile(
                        q, "method", duration, ', method=~"AppendTurn|RecallSimilar|HybridSearch"'
                    )
                    for q in (0.5, 0.99)
                },
            ),
        ],
        "Where does the time go?": [
            _stack(
                "Time per second in each stage, callers waiting",
                "s",
                {"{{stage}}": f"sum by (stage) ({_rate(stage + '_sum', interactive)})"},
            ),
            _graph(
                "p99 of each stage, callers waiting",
                "s",
                {"{{stage}}": _quantile(0.99, "stage", stage, interactive)},
            ),
            _graph(
                "Searches by the strategy that answered",
                "reqps",
                {
                    "{{search}} {{strategy}}": f"sum by (search, strategy) ({_rate('memsidecar_searches_total')})"
                },
            ),
        ],
        "Is there room?": [
            _graph(
                "Texts waiting for the model",
                "none",
                {"{{lane}} {{pod}}": f"memsidecar_embedding_queued_texts{{{_HERE}}}"},
            ),
            _graph(
                "Calls refused because that queue was long",
                "reqps",
                {"{{lane}}": f"sum by (lane) ({_rate('memsidecar_embedding_refused_total')})"},
            ),
            _graph(
                "Word pieces embedded",
                "none",
                {"{{lane}}": f"sum by (lane) ({_rate('memsidecar_embedding_tokens_total')})"},
            ),
            _graph(
                "Texts by what became of them",
                "none",
                {"{{outcome}}": f"sum by (outcome) ({_rate('memsidecar_embedding_texts_total')})"},
            ),
            _graph(
                "Database connections",
                "none",
                {
                    "{{state}}": f"sum by (state) (memsidecar_database_connections{{{_HERE}}})",
                    "limit": f"sum(memsidecar_database_connections_limit{{{_HERE}}})",
                    "calls waiting": f"sum(memsidecar_database_connections_waiting{{{_HERE}}})",
                },
            ),
            _graph("Processor", "none", {"{{pod}}": _rate("process_cpu_seconds_total")}),
            _graph("Memory", "bytes", {"{{pod}}": f"process_resident_memory_bytes{{{_HERE}}}"}),
            _graph("Calls in progress", "none", {"{{pod}}": f"memsidecar_calls_in_progress{{{_HERE}}}"}),
        ],
        "Do documents get in?": [
            _graph("Jobs not done", "none", {"jobs": f"max(memsidecar_ingestion_open_jobs{{{_HERE}}})"}),
            _graph("Age of the oldest", "s", {"age": f"max(memsidecar_ingestion_lag_seconds{{{_HERE}}})"}),
            _graph(
                "Documents done with",
                "none",
                {"{{outcome}}": f"sum by (outcome) ({_rate('memsidecar_ingested_documents_total')})"},
            ),
        ],
        "What runs?": [
            _panel(title, "table", "none", {"": f"{metric}{{{_HERE}}}"})
            for title, metric in (("Versions", "memsidecar_build_info"), ("Models", "memsidecar_model_info"))
        ],
    }


def _variable(name: str, query: str) -> dict[str, Any]:
    return {"name": name, "type": "query", "datasource": _SOURCE, "query": query, "refresh": 2, "sort": 1}


def dashboard() -> dict[str, Any]:
    """Lay the panels out: a heading for each question, its panels side by side."""
    panels: list[Panel] = []
    top = 0
    for heading, row in _rows().items():
        panels.append({"type": "row", "title": heading, "gridPos": {"x": 0, "y": top, "w": _WIDTH, "h": 1}})
        top += 1
        height = 4 if row[0]["type"] == "stat" else 8
        per_line = min(len(row), 5 if row[0]["type"] == "stat" else 4)
        width = _WIDTH // per_line
        for number, panel in enumerate(row):
            line, column = divmod(number, per_line)
            position = {"x": column * width, "y": top + line * height, "w": width, "h": height}
            panels.append({**panel, "gridPos": position})
        top += height * -(-len(row) // per_line)
    for number, panel in enumerate(panels):
        panel["id"] = number + 1
    return {
        "title": "memsidecar",
        "uid": "memsidecar",
        "tags": ["memsidecar"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                _variable("namespace", "label_values(memsidecar_serving, namespace)"),
                _variable("job", 'label_values(memsidecar_serving{namespace="$namespace"}, job)'),
            ]
        },
        "panels": panels,
    }


def main() -> None:
    """Write the file, or with ``--check`` only say whether it is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    text = json.dumps(dashboard(), indent=1) + "\n"
    if not parser.parse_args().check:
        PATH.write_text(text)
    elif not PATH.exists() or PATH.read_text() != text:
        sys.exit("stale: the dashboard; run python -m tools.dashboard")


if __name__ == "__main__":
    main()
