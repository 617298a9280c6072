"""A broker of a third party: installed as its users would, found by its entry point, and held to the same contract."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.brokers.kit import ROOT

PLUGIN = ROOT / "examples" / "broker_plugin"


@pytest.mark.slow
def test_the_example_of_a_plugin_keeps_the_contract_once_it_is_installed(tmp_path: Path) -> None:
    # Installed from a copy: building leaves traces beside the sources.
    source, installed = tmp_path / "source", tmp_path / "installed"
    shutil.copytree(PLUGIN, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(installed), str(source)])
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    output = run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pyproject.toml", str(source / "tests")],
        environment,
    )
    assert " passed" in output
    assert "failed" not in output


def run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """What a command says; fails with all of it when the command does."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
