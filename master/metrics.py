"""The master's figures for Prometheus. Labels have few values: never a device, a gateway or an address."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from master.leases import State


@dataclass(frozen=True)
class Metrics:
    """Counters, and the registry they are in."""

    registry: CollectorRegistry
    calls: Counter
    commands: Counter
    results: Counter
    requests: Counter


def make_metrics(
    gateways: Callable[[], Mapping[State, int]], connected: Callable[[], int], watchers: Callable[[], int]
) -> Metrics:
    """``gateways`` gives their number by state, ``connected`` how many have a connection, ``watchers`` how many clients watch."""
    registry = CollectorRegistry()
    registry.register(_Fleet(gateways, connected, watchers))
    return Metrics(
        registry=registry,
        calls=Counter(
            "iotcloud_master_calls", "Calls of gateways, by the code of their answer", ["method", "code"], registry=registry
        ),
        commands=Counter("iotcloud_master_commands", "Commands taken from clients", registry=registry),
        results=Counter("iotcloud_master_results", "States of commands read from brokers", ["readable"], registry=registry),
        requests=Counter(
            "iotcloud_master_requests", "HTTP requests, by the class of their status", ["status"], registry=registry
        ),
    )


class _Fleet(Collector):
    def __init__(
        self, gateways: Callable[[], Mapping[State, int]], connected: Callable[[], int], watchers: Callable[[], int]
    ) -> None:
        self._gateways = gateways
        self._connected = connected
        self._watchers = watchers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        states = GaugeMetricFamily("iotcloud_master_gateways", "Gateways by state", labels=["state"])
        for state, count in self._gateways().items():
            states.add_metric([state], count)
        yield states
        yield GaugeMetricFamily("iotcloud_master_connections", "Gateways connected to this process", value=self._connected())
        yield GaugeMetricFamily("iotcloud_master_watchers", "Clients that watch for changes", value=self._watchers())

    def describe(self) -> Iterator[GaugeMetricFamily]:
        return iter(())
