"""Every command that README and docs/ show is run as it is written, in the order of its page.

What goes on by itself (a gateway, a master, a job) is left alone until it says that it works, and then asked to stop.
"""

from __future__ import annotations

import getpass
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from examples.demo.layout import HERE
from tests.servers import every
from tests.servers.broker_server import Servers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Proven elsewhere: by the tests of the demonstration, by this very run, by whoever measures.
ELSEWHERE = re.compile(r"\./dev (demo|test|bench|lint|doctor)\b")
#: What a part writes to its log when it works.
WORKS = {
    "gateway run": "started",
    "master": "listening",
    "pipeline realtime": "status at",
    "pipeline archive": "status at",
    "relay": "",
}
PATIENCE = 90.0


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"^```([^\n]*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    shown = [block for language, block in blocks if language in ("", "sh", "bash")]
    lines = [line.strip() for block in shown for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if re.match(r"(\./dev|\.venv/bin/\w+|python -m|iotcloud) \S", line)]


def test_there_are_commands_to_run() -> None:
    assert [page.name for page in PAGES if commands(page)] != []


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_the_commands_of_a_page_work(page: Path, servers: Servers, tmp_path: Path) -> None:
    prepare(tmp_path)
    for command in commands(page):
        if ELSEWHERE.match(command):
            continue
        run(concrete(command, servers, tmp_path), tmp_path, works(command))


def works(command: str) -> str | None:
    """What says that a command works which goes on until it is stopped; None of one that ends by itself."""
    if "--until-end" in command:
        return None
    return next((text for part, text in WORKS.items() if re.search(rf"iotcloud {part}\b", command)), None)


def prepare(folder: Path) -> None:
    """What a reader of the page has: a pipeline's file, a directory for a log."""
    (folder / "pipeline.toml").write_text((HERE / "pipeline.toml").read_text())
    (folder / "DIR").mkdir()


def concrete(command: str, servers: Servers, folder: Path) -> str:
    """The command with our interpreter, our servers in the place of example hosts, and paths below ``folder``."""
    command = re.sub(r"^(\.venv/bin/)?(iotcloud|python)\b", lambda found: _program(found[2]), command)
    command = re.sub(
        r"\b(hdfs|postgresql)://[^\s'\"]*\bexample\.com[^\s'\"]*", lambda found: store_url(found[0], servers), command
    )
    for url in re.findall(r"\b\w+s?://[^\s'\"]*\bexample\.com[^\s'\"/]*(?:/[\w-]+)?(?=/)", command):
        command = command.replace(url, server_url(url, servers))
    return command.replace("/var/lib/iotcloud", str(folder))


def _program(name: str) -> str:
    return sys.executable if name == "python" else f"{sys.executable} -m iotcloud"


def server_url(example: str, servers: Servers) -> str:
    """A real server of the same scheme."""
    for name in every.names():
        if urlsplit(example).scheme in import_module(f"brokers.{name}").SCHEMES:
            return servers[name].url().partition("?")[0].rstrip("/")
    raise AssertionError(f"no server speaks {example}")


def store_url(example: str, servers: Servers) -> str:
    """The same place on a real server, where HDFS knows no user but its superuser."""
    name, path = urlsplit(example).scheme, urlsplit(example).path
    options = dict(parse_qsl(urlsplit(example).query))
    if name == "hdfs":
        return servers[name].url(path=path, **{**options, "user": getpass.getuser()})
    return servers[name].url(**options)


def run(command: str, folder: Path, ready: str | None) -> None:
    """Run to its end, or until it says ``ready`` and then stops when asked to."""
    log = folder / "command.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-c", "set -euo pipefail; " + (f"exec {command}" if ready is not None else command)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "AMQP_PASSWORD": "unused"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        if ready is not None:
            until = time.monotonic() + PATIENCE
            while ready not in log.read_text() or time.monotonic() < until - PATIENCE + 3:
                assert process.poll() is None, f"{shlex.quote(command)} ended: {log.read_text()[-2000:]}"
                assert time.monotonic() < until, f"{command}: never said {ready!r}: {log.read_text()[-2000:]}"
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, f"{command}: {log.read_text()[-2000:]}"
    finally:
        process.kill()
        process.wait()
