"""The agent's Prometheus metrics, read from where the numbers are when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway_agent.host.application import Status
from gateway_agent.outbox import OutboxState


class AgentMetrics(Collector):
    """Labels are bounded by configuration: reasons, topics, applications, steps."""

    def __init__(
        self,
        outbox: Callable[[], OutboxState],
        applications: Callable[[], Sequence[Status]],
        commands: Callable[[], dict[str, int]],
    ) -> None:
        self._outbox = outbox
        self._applications = applications
        self._commands = commands

    def collect(self) -> Iterator[Metric]:
        yield from self._of_outbox(self._outbox())
        up = GaugeMetricFamily("iotcloud_application_running", "1 while it runs", labels=["application"])
        restarts = CounterMetricFamily(
            "iotcloud_application_restarts", "Times its process was started again", labels=["application"]
        )
        rejected = CounterMetricFamily("iotcloud_rejected", "Input that could not be made into events", labels=["application"])
        for one in self._applications():
            up.add_metric([one.name], float(one.state == "running"))
            restarts.add_metric([one.name], one.restarts)
            rejected.add_metric([one.name], one.rejected)
        yield from (up, restarts, rejected)
        commands = GaugeMetricFamily("iotcloud_commands", "Commands remembered, by the last step", labels=["step"])
        for step, count in self._commands().items():
            commands.add_metric([step], count)
        yield commands

    @staticmethod
    def _of_outbox(state: OutboxState) -> Iterator[Metric]:
        yield GaugeMetricFamily("iotcloud_outbox_events", "Events that wait for a broker", value=state.buffered_events)
        yield GaugeMetricFamily("iotcloud_outbox_bytes", "Bytes that wait for a broker", value=state.buffered_bytes)
        yield GaugeMetricFamily("iotcloud_outbox_max_bytes", "Bytes that may wait", value=state.max_bytes)
        yield GaugeMetricFamily("iotcloud_outbox_accepting", "0 while nothing is accepted", value=float(not state.refusing))
        yield CounterMetricFamily("iotcloud_outbox_damaged_frames", "Frames set aside", value=state.damaged)
        accepted = CounterMetricFamily("iotcloud_outbox_accepted_events", "Events on disk", labels=["topic"])
        published = CounterMetricFamily("iotcloud_outbox_published_events", "Events a broker has taken over", labels=["topic"])
        for one in state.topics:
            accepted.add_metric([one.topic], one.accepted)
            published.add_metric([one.topic], one.published)
        yield from (accepted, published)
        dropped = CounterMetricFamily("iotcloud_outbox_dropped_events", "Events given up", labels=["reason"])
        for reason, count in state.dropped_by_reason.items():
            dropped.add_metric([reason], count)
        yield dropped


def registry_of(metrics: AgentMetrics) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(metrics)
    return registry
