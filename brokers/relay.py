"""``iotcloud relay``: the command line over `brokers.forwarding`."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from brokers.connect import connect
from brokers.forwarding import Forwarder
from brokers.positions import FilePositions
from brokers.url import split_topics
from schemas.errors import IoTCloudError
from telemetry import logs
from telemetry.http import StatusServer
from telemetry.stopping import set_by_signals

_EXAMPLES: Final = """\
examples:
  from RabbitMQ into the embedded log, which pipelines read:
    iotcloud relay 'amqp://relay:${RABBIT_PASSWORD}@broker:5672/plant-1.wsn.humidity' local:/var/lib/iotcloud/log
  several topics of one broker, topics of two brokers:
    iotcloud relay mqtt://edge:1883/plant-1.wsn.humidity,plant-1.wsn.temperature local:log
    iotcloud relay mqtt://a:1883/plant-1.wsn.humidity mqtt://b:1883/plant-2.wsn.humidity local:log
  from one log into another:
    iotcloud relay local:log/plant-1.wsn.humidity kafka://kafka-1:9092

Every message arrives at least once and unchanged, in order per key; topics keep their names. Stop it with
SIGTERM; started again with the same --group it goes on where it was.
"""


def main(argv: Sequence[str]) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status. Raises `IoTCloudError` for what cannot go on."""
    arguments = _parser().parse_args(argv)
    stopping = set_by_signals()
    logs.configure(level=arguments.log_level)
    target = connect(arguments.target)
    topics: dict[str, tuple[str, ...]] = {}
    for text in arguments.source:
        url, names = split_topics(text)
        topics[url] = topics.get(url, ()) + names
    forwarders: list[Forwarder] = []
    kept: list[FilePositions] = []
    try:
        for url, names in topics.items():
            source = connect(url)
            positions = None
            if source.capabilities.log:
                name = f"{arguments.group}-{crc32(source.url.encode()):08x}.json"
                positions = FilePositions(Path(arguments.positions) / name)
                kept.append(positions)
            forwarders.append(
                Forwarder(source, names, target, group=arguments.group, positions=positions, skip_refused=arguments.skip_refused)
            )
        status = _status_server(forwarders, arguments.metrics_port)
        try:
            run_all(forwarders, stopping)
        finally:
            if status:
                status.close()
    finally:
        for positions in kept:
            positions.close()
    return 0


def run_all(forwarders: Sequence[Forwarder], stopping: threading.Event) -> None:
    """Run each in a thread of its own until told to stop. What ends one ends all, and is raised."""
    failures: list[Exception] = []

    def run(forwarder: Forwarder) -> None:
        try:
            forwarder.run(stopping)
        except Exception as error:  # noqa: BLE001  (raised again by the thread that waits)
            failures.append(error)
            stopping.set()

    threads = [
        threading.Thread(target=run, args=(forwarder,), name=f"relay-{index}") for index, forwarder in enumerate(forwarders)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(timeout=0.5)  # a join without end would keep signal handlers from running
    if failures:
        raise failures[0]


class _Collector:
    """The forwarders' progress for Prometheus."""

    def __init__(self, forwarders: Sequence[Forwarder]) -> None:
        self._forwarders = forwarders

    def collect(self) -> Iterable[Metric]:
        for name, field, text in (
            ("iotcloud_relay_messages", "messages", "Messages moved."),
            ("iotcloud_relay_bytes", "bytes", "Bytes of messages moved."),
            ("iotcloud_relay_refused", "refused", "Messages left out because the target refuses them."),
            ("iotcloud_relay_retries", "retries", "Attempts that failed and were made again."),
        ):
            counter = CounterMetricFamily(name, text, labels=["source"])
            for forwarder in self._forwarders:
                counter.add_metric([forwarder.source_url], getattr(forwarder.progress, field))
            yield counter
        lag = GaugeMetricFamily("iotcloud_relay_lag_records", "Records of a log not moved yet.", labels=["source"])
        for forwarder in self._forwarders:
            if forwarder.progress.lag is not None:
                lag.add_metric([forwarder.source_url], forwarder.progress.lag)
        yield lag
        seconds = GaugeMetricFamily(
            "iotcloud_relay_lag_seconds", "Since the gateway accepted the event moved last; 0: all was moved.", labels=["source"]
        )
        for forwarder in self._forwarders:
            if forwarder.progress.lag_seconds is not None:
                seconds.add_metric([forwarder.source_url], forwarder.progress.lag_seconds)
        yield seconds


def _status_server(forwarders: Sequence[Forwarder], port: int | None) -> StatusServer | None:
    if port is None:
        return None
    registry = CollectorRegistry()
    registry.register(_Collector(forwarders))

    def status() -> Mapping[str, Any]:
        return {
            "forwarders": [
                {"source": f.source_url, **{name: getattr(f.progress, name) for name in f.progress.__slots__}} for f in forwarders
            ]
        }

    server = StatusServer(registry, ready=lambda: all(f.progress.connected for f in forwarders), status=status, port=port)
    logs.logger("relay").info("serving /metrics, /ready, /api/v1/status", port=server.port)
    return server


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="iotcloud relay",
        description="Move messages from topics of any broker into a log, which can be read again.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    default = str(Path(state).expanduser() / "iotcloud" / "relay")
    parser.add_argument("source", nargs="+", metavar="FROM_URL/TOPIC[,TOPIC]", help="what to move")
    parser.add_argument("target", metavar="TO_URL", help="the log to move it into")
    parser.add_argument("--group", default="relay", help="name of this relay at the source (default: %(default)s)")
    parser.add_argument(
        "--positions",
        default=default,
        metavar="DIR",
        help="where positions in a source that is a log are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--skip-refused", action="store_true", help="leave out messages that the target refuses, instead of stopping"
    )
    parser.add_argument(
        "--metrics-port",
        type=int,
        metavar="PORT",
        help="serve /metrics, /ready, /api/v1/status on loopback; 0: a free port",
    )
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except IoTCloudError as error:
        sys.stderr.write(error.told)
        sys.exit(1)
