"""Documents claim only what is there: links lead somewhere, commands are ones that exist, samples pass the check."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in ("out", "build") for part in page.relative_to(ROOT).parts)
)
SAMPLES = sorted(ROOT.glob("gateway_agent/drivers/*/sample.toml"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_and_files_named_by_a_page_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:tests|transforms|pipelines|schemas|brokers|storage|master|gateway_agent|settings)/[\w./-]+)`", page.read_text()
    )
    missing = [name for name in named if "NAME" not in name and not (ROOT / name).exists() and not (page.parent / name).exists()]
    assert missing == []


@pytest.mark.parametrize("part", ["gateway", "master", "pipeline", "prove", "relay"])
def test_every_part_of_the_command_line_explains_itself(part: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "iotcloud", part, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, "usage" in done.stdout) == (0, True), done.stderr


def test_an_unknown_part_is_refused_with_those_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "iotcloud", "gatway"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "gateway" in done.stderr


def test_the_script_explains_itself_and_knows_the_commands_of_the_readme() -> None:
    usage = subprocess.run(["./dev", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    used = set(re.findall(r"\./dev (\w+)", (ROOT / "README.md").read_text()))
    assert used
    assert [command for command in used if not re.search(rf"^  {command} ", usage, re.MULTILINE)] == []


@pytest.mark.parametrize("driver", ["replay", "serial", "simulated"])
def test_init_prints_a_configuration_that_passes_the_check(driver: str, tmp_path: Path) -> None:
    agent = [sys.executable, "-m", "gateway_agent"]
    printed = subprocess.run(
        [*agent, "init", "--driver", driver], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    configuration = tmp_path / "gateway.toml"
    configuration.write_text(printed)
    for named in re.findall(r'^file = "([^"/]+)"', printed, re.MULTILINE):
        (tmp_path / named).write_text("time,mote_id,reading,humidity,temperature\n")
    done = subprocess.run(
        [*agent, "check", str(configuration)], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
