"""What can be said of the image without building it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from memsidecar import __version__
from memsidecar.config import Config
from memsidecar.embedding.model_files import SOURCE_FILES
from tools.image_without_docker import instructions
from tools.sbom import bill_of_materials

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def last_stage() -> list[tuple[str, str]]:
    steps = instructions(DOCKERFILE)
    last = max(number for number, (word, _rest) in enumerate(steps) if word == "FROM")
    return steps[last:]


def of(word: str) -> list[str]:
    return [rest for each, rest in last_stage() if each == word]


def test_the_dockerfile_is_as_hadolint_wants_it() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    result = subprocess.run(
        [hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, "")


def test_it_runs_as_nobody_in_particular() -> None:
    [user] = of("USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user), "a number, so that Kubernetes can tell it is not root"
    values = yaml.safe_load((ROOT / "helm/memsidecar/values.yaml").read_text())
    assert user == f"{values['podSecurityContext']['runAsUser']}:{values['podSecurityContext']['runAsGroup']}"
    # Nothing is done as root in the last stage but copying.
    assert of("RUN") == []


def test_its_settings_are_ones_the_program_takes() -> None:
    [environment] = of("ENV")
    settings = dict(pair.split("=", 1) for pair in environment.replace('"', "").split())
    config = Config.from_environment(
        {**settings, "DATABASE_URL": "postgresql://user:password@host:5432/database"}
    )
    assert config.requires_credential
    assert str(config.model_directory) == "/opt/memsidecar/models"
    ports = {config.listen.rpartition(":")[2], str(config.admin_listen).rpartition(":")[2]}
    assert ports == set(of("EXPOSE")[0].split())
    assert not any(word in name for name in settings for word in ("TOKEN", "SECRET", "DATABASE", "PASSWORD"))


def test_it_can_be_asked_how_it_is() -> None:
    [check] = of("HEALTHCHECK")
    assert json.loads(check[check.index("[") :]) == ["memsidecar", "health"]


def test_it_is_labelled_with_its_version() -> None:
    assert f"VERSION={__version__}" in of("ARG")
    [labels] = of("LABEL")
    for name in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in labels


def test_the_build_sees_nothing_it_does_not_copy() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for word, rest in instructions(DOCKERFILE)
        if word == "COPY" and not rest.startswith("--from=")
        for source in rest.split()[:-1]
    }
    assert allowed == copied


def test_the_bill_of_materials_is_valid_and_complete() -> None:
    requirements = (ROOT / "requirements/image.txt").read_text()
    bill = bill_of_materials(requirements)
    text = json.dumps(bill)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    pinned = set(re.findall(r"^([A-Za-z0-9._-]+)==", requirements, re.MULTILINE))
    listed = {component["name"] for component in bill["components"] if component["type"] == "library"}
    assert listed == pinned
    for component in bill["components"]:
        assert component["properties"], component["name"]
    for file in SOURCE_FILES:
        assert file.sha256 in text
    references = [component["bom-ref"] for component in bill["components"]]
    assert len(references) == len(set(references))
