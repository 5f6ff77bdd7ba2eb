"""Renders the chart with Helm's own engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/memsidecar"
EXAMPLES = ROOT / "helm/examples"

SECRETS = {"database": {"app": {"existingSecret": "db-app"}, "owner": {"existingSecret": "db-owner"}}}

VALUE_SETS: dict[str, dict[str, Any]] = {
    "default": SECRETS,
    "everything": {
        "database": {
            "app": {"existingSecret": "db-app", "key": "url", "role": "memory_app"},
            "owner": {"existingSecret": "db-owner"},
            "eraser": {"existingSecret": "db-eraser", "role": "memory_eraser"},
            "caSecret": "db-ca",
        },
        "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": [{"name": "registry"}]},
        "server": {
            "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}],
            "extraVolumes": [{"name": "jwks", "configMap": {"name": "jwks"}}],
            "extraVolumeMounts": [{"name": "jwks", "mountPath": "/etc/memsidecar/jwks", "readOnly": True}],
        },
        "tls": {"existingSecret": "server-tls", "clientAuthorityKey": "ca.crt"},
        "deployment": {
            "annotations": {"team": "memory"},
            "podAnnotations": {"team": "memory"},
            "podLabels": {"team": "memory"},
            "priorityClassName": "important",
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "memory", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"podAntiAffinity": {}},
        },
        "autoscaling": {"enabled": True},
        "networkPolicy": {
            "enabled": True,
            "clients": [{"namespaceSelector": {"matchLabels": {"agents": "true"}}}],
            "scrapers": [
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
            ],
            "database": {"peers": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "port": 6432},
            "extraEgress": [{"ports": [{"port": 4318}]}],
        },
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True},
            "dashboard": {"enabled": True},
        },
    },
    "one-replica-by-hand": {
        "database": {"app": {"existingSecret": "db-app"}},
        "deployment": {"replicas": 1},
        "migration": {"enabled": False},
        "maintenance": {"enabled": False},
        "serviceAccount": {"create": False},
    },
}


def render(
    values: dict[str, Any], *, chart: Path = CHART, name: str = "memory", upgrade: bool = False
) -> dict[str, str]:
    """Give each template's text by its path; notes left out."""
    with helm.Chart.load(chart) as loaded:
        texts = loaded.render(
            values,
            name=name,
            namespace="agents",
            revision=1 + upgrade,
            is_install=not upgrade,
            is_upgrade=upgrade,
        )
    return {path: text for path, text in texts.items() if not path.endswith("NOTES.txt") and text.strip()}


def manifests(texts: dict[str, str]) -> list[dict[str, Any]]:
    """Parse every manifest."""
    return [each for text in texts.values() for each in yaml.safe_load_all(text) if each is not None]


def of_kind(texts: dict[str, str], kind: str) -> list[dict[str, Any]]:
    """Give the manifests of a kind."""
    return [each for each in manifests(texts) if each["kind"] == kind]


def pod_specs(texts: dict[str, str]) -> list[dict[str, Any]]:
    """Give the Pods that any manifest makes."""
    specs = []
    for manifest in manifests(texts):
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Pod":
            specs.append(spec)
        elif manifest["kind"] == "CronJob":
            specs.append(spec["jobTemplate"]["spec"]["template"]["spec"])
        elif manifest["kind"] in {"Deployment", "Job"}:
            specs.append(spec["template"]["spec"])
    return specs


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Give all containers of a Pod."""
    return [*spec.get("initContainers", []), *spec["containers"]]
