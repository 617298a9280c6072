"""What a running job shows: the status document, Prometheus metrics, and a line every few seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from pipelines.counts import TOO_LATE_FOR
from pipelines.session import Session
from pipelines.sources.relayed import Relays
from telemetry.logs import logger
from transforms.admit import BEFORE_ALL, wall_clock

_EVERY_SECONDS: Final = 5.0
_TTY_SECONDS: Final = 1.0
#: Counters of a topic, in the order they are shown.
TOPIC_COUNTERS: Final = ("events", "admitted", "duplicates", "late", "too_late", "future", "frames", "dead_frames", "bytes")
#: Counters of the job, by what they are called in the status document.
JOB_COUNTERS: Final[Mapping[str, str]] = {
    "rows": "rows_aggregates",
    "latest": "rows_latest",
    "dead_letters": "rows_dead_letters",
    "gaps_open": "gaps_open",
    "gaps_closed": "gaps_closed",
    "gaps_declared": "gaps_declared",
    "missing": "missing",
    "commands": "commands",
    "alerts": "rows_alerts",
    "corrections": "corrections",
    "corrected_windows": "corrected_windows",
    "uncorrectable_windows": "uncorrectable_windows",
}


class Status:
    """Reads a session; may be asked from any thread."""

    def __init__(self, session: Session, relays: Relays, *, job: str, runner: str, clock: Callable[[], int] = wall_clock) -> None:
        self._session = session
        self._relays = relays
        self._job = job
        self._runner = runner
        self._clock = clock
        self._began = time.monotonic()
        self._rate = _Rate()
        self.phase = "starting"

    def document(self) -> dict[str, Any]:
        """The status as JSON data. Times are µs since 1970, UTC; what is not known is null."""
        counts = self._session.counts
        topics = counts.topics()
        job = counts.job()
        totals = {name: sum(topic.get(name, 0) for topic in topics.values()) for name in TOPIC_COUNTERS}
        totals |= {name: job.get(key, 0) for name, key in JOB_COUNTERS.items()}
        missed = {name.removeprefix(TOO_LATE_FOR): number for name, number in job.items() if name.startswith(TOO_LATE_FOR)}
        totals["too_late_for_window"] = sum(missed.values())
        return {
            "job": self._job,
            "runner": self._runner,
            "phase": self.phase,
            "uptime_seconds": round(time.monotonic() - self._began, 3),
            "watermark": counts.watermark,
            "caught_up": self.caught_up(),
            "in_flight_bytes": self._session.credit.used,
            "events_per_second": round(self._rate.of(totals["events"]), 1),
            "totals": totals,
            "too_late_for_window": missed,
            "unreachable": self._session.unreachable(),
            "relays": self._relays.document(),
            "topics": self._topics(topics, counts.newest()),
        }

    def caught_up(self) -> bool:
        """Whether queues and partitions have been read to their end, and nothing read is waiting to be decoded."""
        clocks = self._session.clocks.snapshot().values()
        return (
            self._relays.idle
            and not self._session.unreachable()
            and self._session.credit.used == 0
            and all(clock.caught_up is not None or clock.finished for clock in clocks)
        )

    def _topics(self, topics: Mapping[str, Mapping[str, int]], newest: Mapping[str, int]) -> dict[str, Any]:
        watermarks: dict[str, int] = {}
        partitions: dict[str, int] = {}
        for (topic, _), clock in self._session.clocks.snapshot().items():
            watermarks[topic] = min(clock.watermark, watermarks.get(topic, clock.watermark))
            partitions[topic] = partitions.get(topic, 0) + 1
        now = self._clock()
        return {
            topic: {
                "partitions": partitions[topic],
                "watermark": watermarks[topic] if watermarks[topic] > BEFORE_ALL else None,
                "lag_seconds": round((now - watermarks[topic]) / 1e6, 3) if watermarks[topic] > BEFORE_ALL else None,
                "newest_event_time": newest[topic] if newest.get(topic, BEFORE_ALL) > BEFORE_ALL else None,
                **{name: topics.get(topic, {}).get(name, 0) for name in TOPIC_COUNTERS},
            }
            for topic in sorted(partitions)
        }

    def line(self) -> str:
        """One line for a person."""
        document = self.document()
        totals = document["totals"]
        lags = [topic["lag_seconds"] for topic in document["topics"].values() if topic["lag_seconds"] is not None]
        watermark = document["watermark"]
        shown = "-" if watermark is None else datetime.fromtimestamp(watermark / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return (
            f"{document['phase']} {document['events_per_second']:,.0f} events/s"
            f" | {totals['events']:,} events, {totals['rows']:,} rows | watermark {shown}, lag {max(lags, default=0):,.1f} s"
            f" | late {totals['late']} too late {totals['too_late']} (for some window {totals['too_late_for_window']})"
            f" future {totals['future']} duplicates {totals['duplicates']}"
            f" missing {totals['missing']} dead {totals['dead_letters']} commands {totals['commands']}"
        )

    def registry(self) -> CollectorRegistry:
        """A registry with the job's metrics."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Metrics(self))
        return registry


class _Metrics(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterable[Any]:
        document = self._status.document()
        for name in TOPIC_COUNTERS:
            metric = CounterMetricFamily(f"iotcloud_pipeline_{name}", f"{name} read", labels=["topic"])
            for topic, found in document["topics"].items():
                metric.add_metric([topic], found[name])
            yield metric
        for name in JOB_COUNTERS:
            yield CounterMetricFamily(f"iotcloud_pipeline_{name}", f"{name} of the job", value=document["totals"][name])
        missed = CounterMetricFamily(
            "iotcloud_pipeline_too_late_for_window_events",
            "events that this window has missed, though not all",
            labels=["window"],
        )
        for window, number in document["too_late_for_window"].items():
            missed.add_metric([window], number)
        yield missed
        lag = GaugeMetricFamily("iotcloud_pipeline_watermark_lag_seconds", "clock less watermark", labels=["topic"])
        for topic, found in document["topics"].items():
            if found["lag_seconds"] is not None:
                lag.add_metric([topic], found["lag_seconds"])
        yield lag
        behind = GaugeMetricFamily("iotcloud_pipeline_relay_lag_seconds", "age of what was moved last", labels=["source"])
        for relay in document["relays"]:
            if relay["lag_seconds"] is not None:
                behind.add_metric([relay["source"]], relay["lag_seconds"])
        yield behind
        yield GaugeMetricFamily("iotcloud_pipeline_in_flight_bytes", "read and not yet decoded", document["in_flight_bytes"])
        if document["watermark"] is not None:
            yield GaugeMetricFamily("iotcloud_pipeline_watermark_seconds", "behind the sinks", document["watermark"] / 1e6)


class Reporter:
    """Shows the status every few seconds until closed: a line that stays in place on a terminal, else a log event."""

    def __init__(self, status: Status, stream: TextIO = sys.stderr) -> None:
        self._status = status
        self._stream = stream
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._show(last=True)

    def _run(self) -> None:
        while not self._closing.wait(_TTY_SECONDS if self._stream.isatty() else _EVERY_SECONDS):
            self._show()

    def _show(self, *, last: bool = False) -> None:
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[2K{self._status.line()}" + ("\n" if last else ""))
            self._stream.flush()
            return
        document = self._status.document()
        lags = {topic: found["lag_seconds"] for topic, found in document["topics"].items()}
        logger("pipeline").info(
            "status",
            phase=document["phase"],
            events_per_second=document["events_per_second"],
            watermark=document["watermark"],
            lag_seconds=lags,
            **document["totals"],
        )


class _Rate:
    """Events per second over the last few seconds, from totals asked for at any time."""

    _SPAN: Final = 5.0

    def __init__(self) -> None:
        self._points: list[tuple[float, int]] = []
        self._lock = threading.Lock()

    def of(self, total: int) -> float:
        now = time.monotonic()
        with self._lock:
            self._points = [*(point for point in self._points if now - point[0] < self._SPAN), (now, total)]
            first = self._points[0]
        return (total - first[1]) / (now - first[0]) if now > first[0] else 0.0
