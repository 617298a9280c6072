"""Two NameNodes for one DataNode, one active and one in standby, over a directory of edits that they share."""

from __future__ import annotations

import getpass
import shutil
import time
from pathlib import Path

from tests.servers.hdfs import DataNode
from tests.servers.hdfs.java import HA_ADMIN, NAMENODE, QUICK, bean, configure, java, run
from tests.servers.ports import free_port, listening
from tests.servers.process import ServerFailed, ServerProcess

_PATIENCE = 90.0


class HdfsPair:
    """Made, not started. Nobody fails over by itself: `activate` does it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = {"one": free_port(), "two": free_port()}
        self._confs = {name: directory / f"conf-{name}" for name in self._ports}
        common: dict[str, object] = {
            **QUICK,
            "dfs.replication": 1,
            "dfs.nameservices": "pair",
            "dfs.ha.namenodes.pair": "one,two",
            "dfs.ha.automatic-failover.enabled": "false",
            "dfs.ha.fencing.methods": "shell(true)",
            "dfs.ha.tail-edits.period": 1,
            "dfs.namenode.shared.edits.dir": f"file://{directory}/edits",
            "dfs.client.failover.proxy.provider.pair": (
                "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider"
            ),
        }
        for name, port in self._ports.items():
            common[f"dfs.namenode.rpc-address.pair.{name}"] = f"127.0.0.1:{free_port()}"
            common[f"dfs.namenode.http-address.pair.{name}"] = f"127.0.0.1:{port}"
        for name, conf in self._confs.items():
            core = {"fs.defaultFS": "hdfs://pair", "hadoop.tmp.dir": directory / f"tmp-{name}"}
            configure(
                conf, core, {**common, "dfs.ha.namenode.id": name, "dfs.namenode.name.dir": f"file://{directory}/namenode-{name}"}
            )
        run(self._confs["one"], NAMENODE, "-format", "-nonInteractive", "-force")
        # What -bootstrapStandby does, without the first one running.
        shutil.copytree(directory / "namenode-one", directory / "namenode-two")
        self.namenodes = {name: self._namenode(name) for name in self._ports}
        self._datanode = DataNode(self._confs["one"], directory, 1)

    def url(self, path: str = "/archive", **options: str) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports.values())
        return f"hdfs://{hosts}{path}?" + "&".join(
            f"{key}={value}" for key, value in {"user": getpass.getuser(), **options}.items()
        )

    def start(self) -> None:
        for server in (*self.namenodes.values(), self._datanode):
            server.start()
        self.activate("one")

    def activate(self, name: str) -> None:
        """Make one the active NameNode and wait until it takes writes. Raises `ServerFailed`."""
        run(self._confs[name], HA_ADMIN, "-transitionToActive", "--forceactive", name)
        until = time.monotonic() + _PATIENCE
        while not self._serves(name):
            if time.monotonic() > until:
                raise ServerFailed(f"NameNode {name} was not active in {_PATIENCE:.0f} s: {self.namenodes[name].tail()}")
            time.sleep(0.1)

    def demote(self, name: str) -> None:
        run(self._confs[name], HA_ADMIN, "-transitionToStandby", name)

    def stop(self) -> None:
        for server in (self._datanode, *self.namenodes.values()):
            server.stop(deadline=5)

    def _namenode(self, name: str) -> ServerProcess:
        port = self._ports[name]
        command = [*java(self._confs[name]), NAMENODE]
        return ServerProcess(f"namenode-{name}", command, directory=self._directory, ready=lambda: listening(port))

    def _serves(self, name: str) -> bool:
        port = self._ports[name]
        state = bean(port, "FSNamesystem").get("tag.HAState", "")
        live = bean(port, "FSNamesystemState").get("NumLiveDataNodes", 0)
        return state == "active" and live == 1 and bean(port, "NameNodeInfo").get("Safemode", "?") == ""
