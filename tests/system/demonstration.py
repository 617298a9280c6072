"""Running the demonstration as a person would, and finding its processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


def start(out: Path, *more: str) -> subprocess.Popen[str]:
    """``./dev demo --once --json`` without its set-up."""
    command = [sys.executable, "-m", "examples.demo", "--once", "--json", "--out", str(out), *more]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(demonstration: subprocess.Popen[str], *, timeout: float) -> tuple[int, dict[str, Any]]:
    """Exit status and summary."""
    try:
        output, errors = demonstration.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        demonstration.kill()
        raise
    assert output, errors
    return demonstration.returncode, json.loads(output)


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Process ids and command lines of all processes below ``pid``."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            try:
                line = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            yield child, line
            yield from descendants(child)


def pids_of(demonstration: subprocess.Popen[str], kind: str) -> list[int]:
    """The processes of a ``kind``: gateway, pipeline, prism or master."""
    marks = {
        "gateway": "-m gateway_agent run",
        "pipeline": "-m pipelines.run",
        "prism": "prism",
        "master": "-m master ",
    }
    found = []
    for pid, line in descendants(demonstration.pid):
        program = line.split(" ", 1)[0]
        matches = Path(program).name.startswith("prism") if kind == "prism" else marks[kind] in line
        if matches:
            found.append(pid)
    return found
