"""Two brokers, so that partitions have a copy and leadership can move. The first is the controller as well."""

from __future__ import annotations

from pathlib import Path

from tests.servers.kafka.java import CLUSTER, LoggedServer, java, run
from tests.servers.ports import free_port
from tests.servers.process import ServerProcess


class KafkaPair:
    """Made, not started."""

    def __init__(self, directory: Path) -> None:
        self._ports = [free_port(), free_port()]
        controller = free_port()
        self.brokers = [_broker(directory / f"broker-{number}", number, self._ports, controller) for number in (1, 2)]

    def url(self, **options: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return "kafka://" + ",".join(f"127.0.0.1:{port}" for port in self._ports) + (f"?{query}" if query else "")

    def start(self) -> None:
        for broker in self.brokers:
            broker.start()

    def stop(self) -> None:
        for broker in reversed(self.brokers):
            broker.stop(deadline=5)


def _broker(directory: Path, number: int, ports: list[int], controller: int) -> ServerProcess:
    directory.mkdir(parents=True)
    port = ports[number - 1]
    first = number == 1
    properties = {
        "process.roles": "broker,controller" if first else "broker",
        "node.id": number,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAIN://127.0.0.1:{port}" + (f",CONTROLLER://127.0.0.1:{controller}" if first else ""),
        "listener.security.protocol.map": "PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAIN",
        "log.dirs": directory / "data",
        "auto.create.topics.enable": "false",
        "offsets.topic.num.partitions": 2,
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        "num.network.threads": 2,
        "num.io.threads": 2,
    }
    configuration = directory / "server.properties"
    configuration.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    run(directory, "kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(configuration))
    command = [*java("320m"), "kafka.Kafka", str(configuration)]
    return LoggedServer(f"kafka-{number}", command, directory)
