"""What a running job shows of itself."""

from __future__ import annotations

from pipelines.realtime import count_missed
from pipelines.session import close_session, open_session
from pipelines.sources.relayed import Relays
from pipelines.status import Status


def test_what_each_window_has_missed_is_in_the_document_the_line_and_the_metrics() -> None:
    status = Status(open_session("missed", credit=1), Relays((), group="missed"), job="realtime", runner="none")
    count_missed("missed", "minute", 2)
    count_missed("missed", "minute", 3)
    count_missed("missed", "hour", 1)
    close_session("missed")
    document = status.document()
    assert document["too_late_for_window"] == {"minute": 5, "hour": 1}
    assert document["totals"]["too_late_for_window"] == 6
    assert "too late 0 (for some window 6)" in status.line()
    name = "iotcloud_pipeline_too_late_for_window_events_total"
    assert status.registry().get_sample_value(name, {"window": "minute"}) == 5
