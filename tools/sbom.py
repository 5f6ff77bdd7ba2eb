"""Print the software bill of materials of a requirements file, as CycloneDX 1.6 JSON: ``python tools/sbom.py FILE``.

Standard library only, so that the image's build needs nothing for it. Every package is listed with the hashes that an
installation accepts; the model is listed with the sums its installation is checked against.
"""

from __future__ import annotations

import json
import re
import sys
import uuid
from pathlib import Path
from typing import Any

_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)([^\\]*)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAMESPACE = uuid.UUID("0f0a3a7e-4a3c-4a0e-9a59-5a5f8a8a4c11")
_MODEL_FILES = Path(__file__).resolve().parent.parent / "src/memsidecar/embedding/model_files.py"


def packages(requirements: str) -> list[dict[str, Any]]:
    """Read the pinned packages; a package pinned twice, for different versions of Python, is listed twice."""
    found = list(_PINNED.finditer(requirements))
    ends = [match.start() for match in found[1:]] + [len(requirements)]
    return [
        _package(match[1], match[2], match[3], _HASH.findall(requirements[match.end() : end]))
        for match, end in zip(found, ends, strict=True)
    ]


def _package(name: str, version: str, condition: str, hashes: list[str]) -> dict[str, Any]:
    url = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": url + (condition.strip(" ;") and f"#{condition.strip(' ;')}"),
        "name": name,
        "version": version,
        "purl": url,
        # One of them is the sum of the file that was installed: a release has a file for each platform.
        "properties": [{"name": "memsidecar:accepted-sha256", "value": each} for each in hashes],
    }
    if condition.strip(" ;"):
        component["properties"].append({"name": "memsidecar:installed-when", "value": condition.strip(" ;")})
    return component


def _model() -> dict[str, Any]:
    sums = re.findall(r'"([0-9a-f]{64})"', _MODEL_FILES.read_text()) if _MODEL_FILES.exists() else []
    return {
        "type": "machine-learning-model",
        "bom-ref": "model:all-MiniLM-L6-v2",
        "name": "all-MiniLM-L6-v2",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "properties": [{"name": "memsidecar:accepted-sha256", "value": each} for each in sums],
    }


def bill_of_materials(requirements: str) -> dict[str, Any]:
    """Describe everything that the pinned requirements and the model bring; the same input gives the same bill."""
    project = (Path(__file__).resolve().parent.parent / "pyproject.toml").read_text()
    [version] = re.findall(r'^version = "([^"]+)"$', project, re.MULTILINE)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, version + requirements)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": f"pkg:pypi/memsidecar@{version}",
                "name": "memsidecar",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": [*packages(requirements), _model()],
    }


def main() -> None:
    """Print the bill."""
    print(json.dumps(bill_of_materials(Path(sys.argv[1]).read_text()), indent=1))


if __name__ == "__main__":
    main()
