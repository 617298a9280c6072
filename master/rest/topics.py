"""Channels, topics with the addresses of their brokers, schemas."""

from __future__ import annotations

from litestar import get
from litestar.datastructures import CacheControlHeader

from master.errors import NotFound
from master.rest.parameters import After, Chosen, Limit, Name, Serving
from master.store import topics as stored
from master.store.pages import DEFAULT_LIMIT
from master.views import Channel, Page, Schema, Topic


@get("/channels", sync_to_thread=True, summary="Channels of applications, and where their events are")
def channels(services: Serving, chosen: Chosen, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Page[Channel]:
    with services.database.read() as connection:
        return stored.channels(connection, chosen, after=after, limit=limit)


@get("/topics", sync_to_thread=True, summary="Topics with their brokers; of single channels one for each device seen")
def topics(services: Serving, chosen: Chosen) -> list[Topic]:
    with services.database.read() as connection:
        return stored.topics(connection, chosen)


@get("/schemas", sync_to_thread=True, summary="Event schemas")
def schemas(services: Serving, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Page[Schema]:
    with services.database.read() as connection:
        return stored.schemas(connection, after=after, limit=limit)


@get(
    "/schemas/{fingerprint:str}",
    sync_to_thread=True,
    summary="The event schema of a frame's fingerprint (hexadecimal), and the schema of the frame",
    cache_control=CacheControlHeader(private=True, immutable=True, max_age=86_400),
)
def schema(services: Serving, fingerprint: Name) -> Schema:
    with services.database.read() as connection:
        found = stored.schema(connection, fingerprint.lower())
    if found is None:
        raise NotFound(f"no schema has the fingerprint {fingerprint!r}", remedy="16 hexadecimal digits, as on the wire")
    return found


HANDLERS = (channels, topics, schemas, schema)
