"""HDFS 3.4: a NameNode and three DataNodes, processes of their own, spoken to through WebHDFS."""

from __future__ import annotations

import getpass
import time
from collections.abc import Sequence
from pathlib import Path

from tests.servers.hdfs.java import ADMIN, DATANODE, NAMENODE, QUICK, bean, configure, java, run
from tests.servers.ports import free_port, listening
from tests.servers.process import ServerFailed, ServerProcess
from tests.servers.proxy import TcpProxy

_PATIENCE = 90.0


class Cluster:
    """Several processes as one. Those that are ready only together are waited for together."""

    def __init__(self, servers: Sequence[ServerProcess], ready: HdfsServer) -> None:
        self._servers = servers
        self._whole = ready

    @property
    def running(self) -> bool:
        return all(server.running for server in self._servers) and self._whole.live_datanodes() == len(self._whole.datanodes)

    def start(self) -> None:
        """Start those that do not run, and return when all serve. Raises `ServerFailed`."""
        for server in self._servers:
            if not server.running:
                server.start()
        self._whole.wait_until_whole()

    def kill(self) -> None:
        for server in self._servers:
            server.kill()

    def stop(self, *, deadline: float = 10.0) -> None:
        for server in reversed(self._servers):
            server.stop(deadline=deadline)


class HdfsServer:
    """A cluster that is made and not started. Whoever runs it is its superuser."""

    def __init__(self, directory: Path, *, datanodes: int = 3) -> None:
        self.port = free_port()
        self.user = getpass.getuser()
        self._rpc = free_port()
        self.proxy = TcpProxy(self.port)
        self.conf = directory / "conf"
        configure(
            self.conf,
            {"fs.defaultFS": f"hdfs://127.0.0.1:{self._rpc}", "hadoop.tmp.dir": directory / "tmp"},
            {
                **QUICK,
                "dfs.replication": datanodes,
                "dfs.namenode.name.dir": f"file://{directory}/namenode",
                "dfs.namenode.rpc-address": f"127.0.0.1:{self._rpc}",
                "dfs.namenode.http-address": f"127.0.0.1:{self.port}",
            },
        )
        run(self.conf, NAMENODE, "-format", "-nonInteractive", "-force")
        command = [*java(self.conf), NAMENODE]
        self.namenode = ServerProcess("namenode", command, directory=directory, ready=lambda: listening(self.port))
        self.datanodes = [DataNode(self.conf, directory, number) for number in range(1, datanodes + 1)]
        self.process = Cluster([self.namenode, *self.datanodes], self)

    def url(self, path: str = "/archive", **options: str) -> str:
        """For `storage.open_journal`."""
        return _url(self.port, path, {"user": self.user, **options})

    def proxied_url(self, path: str = "/archive", **options: str) -> str:
        """With the requests to the NameNode through the proxy."""
        return _url(self.proxy.port, path, {"user": self.user, **options})

    def admin(self, *arguments: str) -> None:
        """Run ``hdfs dfsadmin`` with these. Raises `ServerFailed`."""
        run(self.conf, ADMIN, *arguments)

    def live_datanodes(self) -> int:
        """As far as the NameNode knows; none while it is not there."""
        return int(bean(self.port, "FSNamesystemState").get("NumLiveDataNodes", 0))

    def in_safe_mode(self) -> bool:
        return bool(bean(self.port, "NameNodeInfo").get("Safemode", "not there"))

    def wait_until_whole(self) -> None:
        """Until all DataNodes are known and the NameNode takes writes. Raises `ServerFailed`."""
        until = time.monotonic() + _PATIENCE
        servers = [self.namenode, *self.datanodes]
        while (safe := self.in_safe_mode()) or self.live_datanodes() < len(self.datanodes):
            ended = [server for server in servers if not server.running]
            if time.monotonic() > until or ended:
                state = f"safe mode: {safe}, live DataNodes: {self.live_datanodes()}"
                said = "\n".join(f"{server.name}:\n{server.tail()}" for server in ended or servers)
                raise ServerFailed(f"HDFS is not ready ({state})\n{said}", remedy=f"see the logs beside {self.namenode.log}")
            time.sleep(0.1)


class DataNode(ServerProcess):
    """One DataNode of the cluster of ``conf``, on ports of its own. Its start returns before the NameNode knows it."""

    def __init__(self, conf: Path, directory: Path, number: int) -> None:
        self.http_port = free_port()
        settings = {
            "dfs.datanode.data.dir": f"file://{directory}/datanode-{number}",
            "dfs.datanode.address": f"127.0.0.1:{free_port()}",
            "dfs.datanode.http.address": f"127.0.0.1:{self.http_port}",
            "dfs.datanode.ipc.address": f"127.0.0.1:{free_port()}",
        }
        command = [*java(conf), DATANODE, *(f"-D{name}={value}" for name, value in settings.items())]
        super().__init__(f"datanode-{number}", command, directory=directory, ready=lambda: True)

    @property
    def serving(self) -> bool:
        """Whether a client is connected to it over HTTP (Linux; ports and the state 01, established, in hexadecimal)."""
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        return any(line.split()[2].endswith(f":{self.http_port:04X}") and line.split()[3] == "01" for line in lines)


def make(directory: Path) -> HdfsServer:
    """See `tests.servers.broker_server.make`."""
    return HdfsServer(directory)


def _url(port: int, path: str, options: dict[str, str]) -> str:
    return f"hdfs://127.0.0.1:{port}{path}?" + "&".join(f"{name}={value}" for name, value in options.items())
