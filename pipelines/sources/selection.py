"""What a master says there is to read."""

from __future__ import annotations

from master.client import Client
from pipelines.sources.discovery import Source
from schemas.errors import ConfigurationError
from schemas.registry import EventSchema


def select(url: str, selection: str, token: str) -> tuple[tuple[Source, ...], tuple[EventSchema, ...]]:
    """Topics of the channels that ``selection`` chooses (all, when empty), and the schemas of their events.

    Raises `IoTCloudError` when the master cannot be asked, and when it knows of nothing to read.
    """
    with Client(url, token or None) as client:
        selected = client.select(selection)
    sources = tuple(Source(broker, topics) for broker, topics in selected.by_broker().items())
    if not sources:
        raise ConfigurationError(
            f"the master at {url} knows no channel for --select {selection!r}",
            remedy="start the gateway first, or look at GET /api/v1/channels of the master",
        )
    return sources, tuple(selected.schemas)
