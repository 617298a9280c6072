"""``status``: how a running agent is."""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from typing import Any

from schemas.errors import IoTCloudError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="configuration, TOML, of the agent that runs")
    parser.add_argument("--json", action="store_true", help="all of it, as JSON")


def run(given: argparse.Namespace) -> int:
    """Exit status 1 when the agent does not answer or an application has failed."""
    from gateway_agent.config import load_config

    loaded = load_config(given.file)
    section = loaded.config.status
    url_file = loaded.status_url_file
    try:
        url = url_file.read_text(encoding="utf-8").strip() if not section.port else f"http://{section.host}:{section.port}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{url}/api/v1/status", timeout=5) as answer:
            status: dict[str, Any] = json.load(answer)
    except (OSError, ValueError) as error:
        raise IoTCloudError(
            f"the agent does not answer: {error}", remedy=f"does 'iotcloud gateway run {given.file}' run?"
        ) from error
    if given.json:
        sys.stdout.write(json.dumps(status, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(status)) + "\n")
    return 1 if any(one["state"] == "failed" for one in status["applications"]) else 0


def _lines(status: dict[str, Any]) -> list[str]:
    gateway, outbox = status["gateway"], status["outbox"]
    lines = [f"gateway {gateway['id']}, site {gateway['site']}, version {gateway['version']}, epoch {gateway['epoch']}", ""]
    for one in status["applications"]:
        more = f" ({one['detail']})" if one["detail"] else ""
        lines.append(f"  {one['name']:20} {one['state']:11} {one['restarts']} restarts, {one['rejected']} rejected{more}")
    lines += ["", f"  {'topic':40} {'accepted':>12} {'published':>12} {'dropped':>9} {'waiting':>9}"]
    for topic, counts in sorted(status["topics"].items()):
        lines.append(
            f"  {topic:40} {counts['accepted']:>12,} {counts['published']:>12,} {counts['dropped']:>9,} {counts['buffered']:>9,}"
        )
    lines += ["", f"  outbox: {outbox['buffered_bytes']:,} of {outbox['max_bytes']:,} bytes"]
    if outbox["refusing"]:
        lines.append(f"  accepts nothing now: {outbox['refusing']}")
    for name, one in status["transports"].items():
        lines.append(f"  transport {name}: {one['state']} {one['url']} {one['detail']}".rstrip())
    lines.append(f"  master: {status['control']['state']} {status['control']['detail']}".rstrip())
    return lines
