"""What a job has counted so far in this process, for the status line, the metrics and the status document."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from transforms.admit import Note

#: Of counters of the job: events that came too late for the window named behind it, though not for all.
TOO_LATE_FOR: Final = "too_late_for_window:"


class Counts:
    """Totals per topic and for the job. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._topics: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._job: dict[str, int] = defaultdict(int)
        self._newest: dict[str, int] = {}
        self._passed: int | None = None

    def note(self, note: Note) -> None:
        """Count a block."""
        found = {
            "frames": note.frames,
            "events": note.events,
            "admitted": note.admitted,
            "duplicates": note.duplicates,
            "late": note.late,
            "too_late": note.too_late,
            "future": note.future,
            "dead_frames": note.dead,
            "bytes": note.size,
            "blocks": 1,
        }
        with self._lock:
            topic = self._topics[note.topic]
            for name, number in found.items():
                topic[name] += number
            self._newest[note.topic] = max(note.newest, self._newest.get(note.topic, note.newest))

    def add(self, name: str, number: int = 1, *, topic: str | None = None) -> None:
        with self._lock:
            (self._job if topic is None else self._topics[topic])[name] += number

    def passed(self, watermark: int) -> None:
        """Everything before ``watermark`` (µs since 1970, UTC) has gone through the sinks."""
        with self._lock:
            self._passed = watermark if self._passed is None else max(self._passed, watermark)

    @property
    def watermark(self) -> int | None:
        """The watermark behind the sinks, µs since 1970, UTC; None before the first is known."""
        return self._passed

    def topics(self) -> Mapping[str, Mapping[str, int]]:
        with self._lock:
            return {name: dict(counts) for name, counts in self._topics.items()}

    def newest(self) -> Mapping[str, int]:
        """Newest event time by topic, µs since 1970, UTC."""
        with self._lock:
            return dict(self._newest)

    def job(self) -> Mapping[str, int]:
        with self._lock:
            return dict(self._job)

    def total(self, name: str) -> int:
        with self._lock:
            return self._job.get(name, 0) + sum(counts.get(name, 0) for counts in self._topics.values())
