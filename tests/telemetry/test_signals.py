"""Alerts and dashboard ask for metrics that exist, and every alert has an entry in the runbook."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest

from tests.helm.charts import CHART, ROOT, VALUE_SETS, of_kind, render
from tests.telemetry.http_client import read_metrics
from tools.dashboard import dashboard

if TYPE_CHECKING:
    from memsidecar.app import RunningSidecar

_OTHERS = {"kube_cronjob_status_last_successful_time"}
"""From kube-state-metrics."""


def alerts() -> list[dict[str, Any]]:
    [rule] = of_kind(render(VALUE_SETS["everything"]), "PrometheusRule")
    return [alert for group in rule["spec"]["groups"] for alert in group["rules"]]


def dashboard_queries() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])]


def parsed(query: str) -> Any:
    return promql_parser.parse(query.replace("$__rate_interval", "1m"))


def metrics_in(query: str) -> set[str]:
    return set(re.findall(r"\b(?:memsidecar|process|kube)_[a-z_]+", query))


@pytest.mark.parametrize("query", [alert["expr"] for alert in alerts()] + dashboard_queries())
def test_every_query_is_promql(query: str) -> None:
    parsed(query)
    assert metrics_in(query)


async def test_every_metric_asked_for_exists(measured_sidecar: RunningSidecar) -> None:
    metrics = await read_metrics(measured_sidecar.admin_address)
    known = {sample.name for family in metrics.families for sample in family.samples}
    # Families with labels have no sample before the first event.
    known |= {
        family.name + suffix
        for family in metrics.families
        for suffix in ("_total", "_bucket", "_count", "_sum")
    }
    asked = set().union(*map(metrics_in, [*dashboard_queries(), *(alert["expr"] for alert in alerts())]))
    assert asked - known - _OTHERS == set()


def test_every_alert_has_a_runbook_entry_and_every_entry_an_alert() -> None:
    runbook = (ROOT / "docs/runbook.md").read_text()
    entries = {heading.lower() for heading in re.findall(r"^## (Memsidecar\w+)$", runbook, re.MULTILINE)}
    links = {alert["annotations"]["runbook_url"].partition("#")[2] for alert in alerts()}
    assert links == entries
    assert links == {alert["alert"].lower() for alert in alerts()}


def test_the_dashboard_is_the_one_the_tool_writes() -> None:
    """Write it again with ``python -m tools.dashboard``."""
    assert json.loads((CHART / "dashboards/memsidecar.json").read_text()) == dashboard()
