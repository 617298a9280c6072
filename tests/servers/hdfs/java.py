"""Hadoop's programs and their configuration."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from tests.servers.packages import maven
from tests.servers.process import ServerFailed

_HERE: Final = Path(__file__).parent
_WEB_APP: Final = '<web-app version="2.5" xmlns="http://java.sun.com/xml/ns/javaee"></web-app>'
NAMENODE: Final = "org.apache.hadoop.hdfs.server.namenode.NameNode"
DATANODE: Final = "org.apache.hadoop.hdfs.server.datanode.DataNode"
ADMIN: Final = "org.apache.hadoop.hdfs.tools.DFSAdmin"
HA_ADMIN: Final = "org.apache.hadoop.hdfs.tools.DFSHAAdmin"

#: Failures are noticed within seconds, as far as a cluster can.
QUICK: Final[Mapping[str, object]] = {
    "dfs.namenode.safemode.extension": 0,
    "dfs.heartbeat.interval": 1,
    "dfs.namenode.heartbeat.recheck-interval": 1000,
    "dfs.namenode.stale.datanode.interval": 3000,
    "dfs.namenode.stale.datanode.minimum.interval": 1,
    "dfs.namenode.avoid.read.stale.datanode": "true",
    "dfs.namenode.avoid.write.stale.datanode": "true",
    "dfs.namenode.write.stale.datanode.ratio": "1.0",
    "dfs.namenode.datanode.registration.ip-hostname-check": "false",
    "dfs.namenode.fs-limits.min-block-size": 4096,
    "dfs.namenode.handler.count": 4,
    "dfs.datanode.hostname": "127.0.0.1",
    "dfs.client.block.write.replace-datanode-on-failure.policy": "NEVER",
    "dfs.client.socket-timeout": 10_000,
    "ipc.client.connect.max.retries": 3,
    "dfs.permissions.superusergroup": "nobody-is-in-it",
}


def java(conf: Path, *, memory: str = "256m") -> list[str]:
    """The command before the name of a class. Raises `ServerFailed`."""
    jars = maven("hdfs", _HERE / "pom.xml")
    # C1 alone starts sooner. Without the opened package WebHDFS answers an empty 500 on Java 17.
    flags = [f"-Xmx{memory}", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
    return ["java", *flags, "--add-opens=java.base/java.lang=ALL-UNNAMED", "-cp", f"{conf}:{jars}/*"]


def configure(conf: Path, core: Mapping[str, object], hdfs: Mapping[str, object]) -> None:
    """Write a configuration directory."""
    for name in ("hdfs", "datanode"):
        web = conf / "webapps" / name / "WEB-INF"
        web.mkdir(parents=True, exist_ok=True)
        # The jars bring no web pages, without which no server starts.
        (web / "web.xml").write_text(_WEB_APP)
    (conf / "webapps" / "static").mkdir(exist_ok=True)
    (conf / "core-site.xml").write_text(_xml(core))
    (conf / "hdfs-site.xml").write_text(_xml(hdfs))
    (conf / "log4j.properties").write_text((_HERE / "log4j.properties").read_text())


def run(conf: Path, *arguments: str) -> str:
    """Run a program to its end; what it says. Raises `ServerFailed`."""
    done = subprocess.run(
        [*java(conf), *arguments],
        cwd=conf.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise ServerFailed(f"{' '.join(arguments)} failed: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def bean(port: int, name: str) -> dict[str, Any]:
    """What a NameNode says of itself; nothing while it cannot be asked."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/jmx?qry=Hadoop:service=NameNode,name={name}", timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["beans"]
            return found[0] if found else {}
    except (OSError, urllib.error.URLError, ValueError):
        return {}


def _xml(properties: Mapping[str, object]) -> str:
    lines = (
        f"<property><name>{escape(name)}</name><value>{escape(str(value))}</value></property>"
        for name, value in properties.items()
    )
    return "<configuration>\n" + "\n".join(lines) + "\n</configuration>\n"
