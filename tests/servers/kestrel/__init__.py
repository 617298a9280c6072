"""The tests' own Kestrel server. It is not Kestrel.

No package of any registry brings a Kestrel server, so this one follows what Kestrel's project has published
(github.com/twitter-archive/kestrel: docs/guide.md, "Memcache", and what its source says of the answers), in a process
of its own, with a journal per queue that survives SIGKILL. What the tests prove, they prove against this.

Left out: the text and thrift protocols, aliases, ``expireToQueue``, configuration per queue, reading behind (all items are
in memory), RELOAD, SHUTDOWN, DUMP_STATS. The journal's format is its own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlencode

from tests.servers.ports import free_port, listening
from tests.servers.process import ServerProcess
from tests.servers.proxy import TcpProxy

#: Of the project, where the server is found as a module.
_ROOT = Path(__file__).parent.parent.parent.parent
_OPEN_READS = 2_000


class KestrelServer:
    """See `tests.servers.broker_server.BrokerServer`. ``arguments`` are those of the server's command line."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.port = free_port()
        command = [
            sys.executable,
            "-m",
            "tests.servers.kestrel",
            "--port",
            str(self.port),
            "--directory",
            str(directory / "queues"),
        ]
        self.process = ServerProcess(
            "kestrel",
            [*command, *arguments],
            directory=directory,
            ready=lambda: listening(self.port),
            environment={"PYTHONPATH": str(_ROOT)},
        )
        self.proxy = TcpProxy(self.port)

    def url(self, **options: str) -> str:
        return _url(self.port, options)

    def proxied_url(self, **options: str) -> str:
        return _url(self.proxy.port, options)

    def wrong_password_url(self) -> None:
        """Kestrel knows no passwords."""

    def tls_url(self) -> None:
        """Kestrel knows no TLS."""

    def untrusted_tls_url(self) -> None:
        """Kestrel knows no TLS."""


def make(directory: Path) -> KestrelServer:
    """As brokers/kestrel/README.md says that a server should be set up."""
    return KestrelServer(directory, "--fanout-only", "--sync", "0.1", "--max-open-reads", str(_OPEN_READS))


def _url(port: int, options: dict[str, str]) -> str:
    return f"kestrel://127.0.0.1:{port}?" + urlencode({"open_reads": str(_OPEN_READS), "max_message_bytes": "1MB", **options})
