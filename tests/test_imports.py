"""Imports point one way: the arrows of docs/architecture.md hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Which of our packages a package may import, beside itself.
ARROWS = {
    "schemas": set(),
    "settings": {"schemas"},
    "telemetry": {"schemas", "settings"},
    "brokers": {"schemas", "settings", "telemetry"},
    "gateway_agent": {"schemas", "settings", "telemetry", "brokers"},
    "master": {"schemas", "settings", "telemetry", "brokers"},
    "transforms": {"schemas", "settings", "telemetry"},
    "storage": {"schemas", "settings", "telemetry", "transforms"},
    "pipelines": {"schemas", "settings", "telemetry", "brokers", "transforms", "storage", "master"},
    "iotcloud": {"schemas"},
}
HEAVY = {"apache_beam", "pyarrow", "polars", "numpy", "sqlalchemy", "litestar", "uvicorn"}
LIGHT_PACKAGES = ("schemas", "settings", "telemetry", "brokers", "gateway_agent")


def imported_by(file: Path) -> set[str]:
    """Dotted names of the modules a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
    return names


@pytest.mark.parametrize("package", ARROWS)
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    allowed = ARROWS[package] | {package}
    strays = {
        f"{file.relative_to(ROOT)} imports {name}"
        for file in (ROOT / package).rglob("*.py")
        for name in imported_by(file)
        if name.split(".")[0] in ARROWS and name.split(".")[0] not in allowed
    }
    assert strays == set()


def test_pipelines_see_of_the_master_only_its_client() -> None:
    strays = {
        f"{file.relative_to(ROOT)} imports {name}"
        for file in (ROOT / "pipelines").rglob("*.py")
        for name in imported_by(file)
        if name.split(".")[0] == "master" and not name.startswith("master.client")
    }
    assert strays == set()


@pytest.mark.parametrize("package", LIGHT_PACKAGES)
def test_what_the_agent_is_made_of_names_no_heavy_library(package: str) -> None:
    strays = {
        f"{file.relative_to(ROOT)} imports {name}"
        for file in (ROOT / package).rglob("*.py")
        for name in imported_by(file)
        if name.split(".")[0] in HEAVY
    }
    assert strays == set()


@pytest.mark.parametrize("module", ["gateway_agent.agent", "gateway_agent.__main__", "brokers.relay", "master.client"])
def test_a_light_module_loads_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ARROWS)
def test_importing_a_package_writes_and_prints_nothing(package: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {package}"], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert (done.stdout, done.stderr) == ("", "")
