"""What the processes of the demonstration say of themselves, put together."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from examples.demo.expected import Statistics, Window
from examples.demo.layout import Layout
from gateway_agent.outbox.inspect import inspect_outbox

_PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class TopicCounts:
    accepted: int
    published: int
    buffered: int


@dataclass(frozen=True, slots=True)
class WindowLine:
    window: str
    device: str
    channel: str
    count: int
    mean: float
    min: float
    max: float


@dataclass(frozen=True, slots=True)
class CommandLine:
    name: str
    device: str
    cause: str
    state: str
    latency: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything shown at one moment. ``expected`` and ``replayed`` count events of the recording."""

    phase: str
    expected: int
    replayed: int = 0
    topics: Mapping[str, TopicCounts] = field(default_factory=dict)
    pipeline: Mapping[str, str] = field(default_factory=dict)
    window_rows: int = 0
    windows: Sequence[WindowLine] = ()
    commands: Sequence[CommandLine] = ()


def fetch(url: str) -> Any | None:
    """JSON from a process of ours; None while it is not there."""
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE) as answer:  # noqa: S310  (our own loopback address)
            return json.load(answer)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        return None


def gateway_status(layout: Layout) -> dict[str, Any] | None:
    """The gateway's own status; None while it is away."""
    if not layout.gateway_url.exists():
        return None
    status: dict[str, Any] | None = fetch(layout.gateway_url.read_text().strip() + "/api/v1/status")
    return status


def pipeline_url(layout: Layout) -> str | None:
    """Where the pipeline's status and metrics are; None while it is away."""
    try:
        return f"http://127.0.0.1:{int(json.loads(layout.pipeline_status.read_text())['port'])}"
    except (OSError, ValueError, KeyError):
        return None


def pipeline_status(layout: Layout) -> dict[str, Any] | None:
    """The pipeline's own status; None while it is away."""
    url = pipeline_url(layout)
    status: dict[str, Any] | None = fetch(url + "/api/v1/status") if url else None
    return status


def topic_counts(gateway: Mapping[str, Any]) -> dict[str, TopicCounts]:
    return {
        topic: TopicCounts(found["accepted"], found["published"], found["buffered"]) for topic, found in gateway["topics"].items()
    }


def outbox_counts(layout: Layout) -> dict[str, TopicCounts]:
    """What the outbox holds on disk, also when no gateway runs."""
    return {
        topic["topic"]: TopicCounts(topic["accepted"], topic["published"], topic["buffered_events"])
        for topic in inspect_outbox(layout.outbox)["topics"]
    }


def rejected(gateway: Mapping[str, Any] | None) -> int:
    """Readings that no application could make an event of."""
    return sum(entry["rejected"] for entry in gateway["applications"]) if gateway else 0


def application(gateway: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(entry for entry in gateway["applications"] if entry["name"] == name)
    return found


def snapshot(
    phase: str,
    expected: int,
    *,
    gateway: Mapping[str, Any] | None,
    pipeline: Mapping[str, Any] | None,
    windows: tuple[int, Sequence[tuple[Window, Statistics]]],
    commands: Sequence[CommandLine],
) -> Snapshot:
    """Put together what is known now. ``windows`` as `examples.demo.results.Newest` finds them."""
    topics = topic_counts(gateway) if gateway else {}
    replayed = sum(counts.accepted for topic, counts in topics.items() if topic.startswith("demo.wsn."))
    rows, newest = windows
    return Snapshot(
        phase=phase,
        expected=expected,
        replayed=replayed,
        topics=topics,
        pipeline=_pipeline_lines(pipeline),
        window_rows=rows,
        windows=[_window_line(window, of) for window, of in newest],
        commands=commands,
    )


def _window_line(window: Window, of: Statistics) -> WindowLine:
    times = f"{window.start:%Y-%m-%d %H:%M}–{window.end:%H:%M}"
    return WindowLine(times, window.device, window.channel, of.count, of.mean, of.min, of.max)


def _pipeline_lines(status: Mapping[str, Any] | None) -> dict[str, str]:
    if status is None:
        return {"state": "not there"}
    totals = status["totals"]
    watermark = status["watermark"]
    lags = [topic["lag_seconds"] for topic in status["topics"].values() if topic["lag_seconds"] is not None]
    return {
        "state": status["phase"],
        "events/s": f"{status['events_per_second']:,.0f}",
        "read": f"{totals['events']:,}",
        "watermark": "–" if watermark is None else datetime.fromtimestamp(watermark / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "lag (clock − watermark)": f"{max(lags, default=0) / 86_400:,.1f} days",
        "in flight": f"{status['in_flight_bytes']:,} B",
        "late": f"{totals['late']:,}",
        "duplicates": f"{totals['duplicates']:,}",
        "missing": f"{totals['missing']:,}",
        "dead letters": f"{totals['dead_letters']:,}",
    }
