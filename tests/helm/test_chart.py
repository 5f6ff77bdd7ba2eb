"""The chart as Helm's engine renders it, against the schemas of Kubernetes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from memsidecar import __version__
from memsidecar.config import Config
from tests.helm.charts import (
    CHART,
    EXAMPLES,
    SECRETS,
    VALUE_SETS,
    containers,
    manifests,
    of_kind,
    pod_specs,
    render,
)

SNAPSHOTS = Path(__file__).parent / "snapshots"
RELEASED = Path(__file__).parent / "released"
KUBERNETES = ("1.29", "1.33", "1.37")
"""The oldest version the chart says it runs on, the first with native sidecars for good, and the newest known here."""

CUSTOM_KINDS = {"ServiceMonitor", "PrometheusRule", "Cluster"}
"""Resources of operators, whose schemas Kubernetes does not have."""


@pytest.fixture(scope="module")
def agent_chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of an agent's chart, its dependency packed into it as an installation does."""
    folder = tmp_path_factory.mktemp("charts") / "helm"
    shutil.copytree(CHART, folder / "memsidecar")
    shutil.copytree(EXAMPLES, folder / "examples")
    helm.dependency_update(folder / "examples/agent")
    return folder / "examples/agent"


def validate(manifest: dict[str, Any]) -> None:
    if manifest["kind"] not in CUSTOM_KINDS:
        for version in KUBERNETES:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
def test_every_manifest_fits_the_schemas_of_kubernetes(values: dict[str, Any]) -> None:
    rendered = manifests(render(values))
    assert rendered
    for manifest in rendered:
        validate(manifest)


@pytest.mark.parametrize("name", VALUE_SETS)
def test_what_is_rendered_is_what_was_read_and_agreed_to(name: str) -> None:
    """Write the snapshots again with MEMSIDECAR_WRITE_SNAPSHOTS=1, and read what changed."""
    texts = render(VALUE_SETS[name])
    texts = {path: text for path, text in texts.items() if "dashboard" not in path}
    text = "".join(f"# {path}\n{text.strip()}\n---\n" for path, text in sorted(texts.items()))
    snapshot = SNAPSHOTS / f"{name}.yaml"
    if os.environ.get("MEMSIDECAR_WRITE_SNAPSHOTS"):
        snapshot.write_text(text)
    assert text == snapshot.read_text()


def test_lint_finds_nothing_to_say() -> None:
    findings = helm.lint(CHART, values=SECRETS)
    assert findings["errors"] == []
    assert [message["error"] for message in findings["messages"]] == ["icon is recommended"]


def test_the_chart_is_of_the_version_it_installs() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
def test_every_pod_keeps_to_the_restricted_pod_security_standard(values: dict[str, Any]) -> None:
    for spec in pod_specs(render(values)):
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert all("hostPath" not in volume for volume in spec.get("volumes", []))
        for container in containers(spec):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
def test_every_setting_the_chart_makes_is_one_that_is_read(values: dict[str, Any]) -> None:
    from dataclasses import fields

    known = {setting.metadata["variable"] for setting in fields(Config)}
    made = {
        variable["name"]
        for spec in pod_specs(render(values))
        for container in containers(spec)
        for variable in container.get("env", [])
    }
    assert made
    assert made <= known


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
def test_the_settings_are_accepted_by_the_program(values: dict[str, Any]) -> None:
    """What comes from Secrets is given a value of the right form."""
    url = "postgresql://user:password@host:5432/database"
    for spec in pod_specs(render(values)):
        for container in containers(spec):
            Config.from_environment(
                {variable["name"]: variable.get("value", url) for variable in container.get("env", [])}
            )


def test_only_jobs_hold_the_owners_credentials() -> None:
    texts = render(VALUE_SETS["everything"])
    [deployment] = of_kind(texts, "Deployment")
    assert "db-owner" not in yaml.safe_dump(deployment)
    for kind in ("Job", "CronJob"):
        [job] = of_kind(texts, kind)
        assert "db-owner" in yaml.safe_dump(job)


def test_liveness_never_asks_the_database() -> None:
    [deployment] = of_kind(render(SECRETS), "Deployment")
    [server] = deployment["spec"]["template"]["spec"]["containers"]
    assert server["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert server["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_the_grace_of_the_pod_covers_the_grace_of_the_calls() -> None:
    [deployment] = of_kind(render({**SECRETS, "server": {"graceSeconds": 60}}), "Deployment")
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 60


def test_migration_runs_before_the_servers_of_a_version_start() -> None:
    for upgrade in (False, True):
        [job] = of_kind(render(VALUE_SETS["everything"], upgrade=upgrade), "Job")
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        [container] = job["spec"]["template"]["spec"]["containers"]
        assert container["args"] == ["migrate", "--app-role", "memory_app", "--eraser-role", "memory_eraser"]


def test_an_autoscaler_and_a_number_of_replicas_do_not_fight() -> None:
    [deployment] = of_kind(render(VALUE_SETS["everything"]), "Deployment")
    assert "replicas" not in deployment["spec"]


def test_one_replica_has_no_disruption_budget_that_would_block_a_drain() -> None:
    assert of_kind(render(VALUE_SETS["one-replica-by-hand"]), "PodDisruptionBudget") == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"deployment": {"replicas": "three"}}, "/deployment/replicas"),
        ({"deployment": {"replica": 3}}, "replica"),
        ({"server": {"authentication": "off"}}, "/server/authentication"),
        ({"sidecar": {"listen": "tcp"}}, "/sidecar/listen"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"maintenance": {"schedule": "daily"}}, "/maintenance/schedule"),
        ({"database": {"poolSize": 0}}, "/database/poolSize"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], said: str) -> None:
    with pytest.raises(helm.HelmError, match=said):
        render({**SECRETS, **values})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "database.owner.existingSecret is needed"),
        (
            {"migration": {"enabled": False}, "maintenance": {"enabled": False}},
            "database.app.existingSecret is needed",
        ),
    ],
)
def test_missing_credentials_are_asked_for(values: dict[str, Any], said: str) -> None:
    with pytest.raises(helm.HelmError, match=said):
        render(values)


@pytest.mark.parametrize("released", sorted(RELEASED.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_upgrade_may_reuse_the_values_of_every_released_version(released: Path) -> None:
    """``helm upgrade --reuse-values`` hands the old defaults to the new chart."""
    values = yaml.safe_load(released.read_text())
    values["database"]["app"]["existingSecret"] = "db-app"
    values["database"]["owner"]["existingSecret"] = "db-owner"
    upgraded = render(values, upgrade=True)
    for manifest in manifests(upgraded):
        validate(manifest)
    # Kubernetes refuses another selector on a Deployment that exists.
    [deployment] = of_kind(upgraded, "Deployment")
    assert deployment["spec"]["selector"]["matchLabels"] == {
        "app.kubernetes.io/name": "memsidecar",
        "app.kubernetes.io/instance": "memory",
        "app.kubernetes.io/component": "server",
    }


@pytest.mark.parametrize("listen", ["socket", "loopback"])
def test_another_chart_includes_a_native_sidecar(agent_chart: Path, listen: str) -> None:
    texts = render({"memsidecar": {"sidecar": {"listen": listen}}}, chart=agent_chart, name="bot")
    for manifest in manifests(texts):
        validate(manifest)
    [deployment] = of_kind(texts, "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    [sidecar] = spec["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/readyz"
    [agent] = spec["containers"]
    environment = {variable["name"]: variable.get("value") for variable in sidecar["env"]}
    assert agent["env"][0]["value"] == environment["MEMSIDECAR_LISTEN"]
    mounts = {mount["name"]: mount["mountPath"] for mount in sidecar["volumeMounts"]}
    volumes = {volume["name"] for volume in spec["volumes"]}
    assert {*mounts} <= volumes
    if listen == "socket":
        assert environment["MEMSIDECAR_LISTEN"] == "unix:/run/memsidecar/memsidecar.sock"
        assert {mount["name"] for mount in agent["volumeMounts"]} == {"memsidecar-socket"}
        assert mounts["memsidecar-socket"] == "/run/memsidecar"
    config = Config.from_environment(
        {name: value for name, value in environment.items() if value is not None}
    )
    assert config.listens_locally
    # Only the Jobs of the sidecar's chart come along.
    assert {manifest["kind"] for manifest in manifests(texts)} == {"Deployment", "Job", "CronJob"}


def test_the_example_with_cloudnativepg_fits_together() -> None:
    values = yaml.safe_load((EXAMPLES / "cloudnativepg/values.yaml").read_text())
    for manifest in manifests(render(values)):
        validate(manifest)
    cluster = list(yaml.safe_load_all((EXAMPLES / "cloudnativepg/cluster.yaml").read_text()))
    secrets = {each["metadata"]["name"]: each["stringData"] for each in cluster if each["kind"] == "Secret"}
    for manifest in cluster:
        validate(manifest)
    for role in ("app", "owner", "eraser"):
        settings = values["database"][role]
        secret = secrets[settings["existingSecret"]]
        assert f"//{secret['username']}:{secret['password']}@memory-rw:5432/memory" in secret["uri"]
        if "role" in settings:
            assert settings["role"] == secret["username"]
    assert values["database"]["caSecret"] == "memory-ca"
