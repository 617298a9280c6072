"""The topics that a selection means: where to read, and the schemas to read with."""

from __future__ import annotations

from dataclasses import dataclass

from master.client.catalogue import Catalogue
from master.client.http import Http
from master.selection import Selection, parse_selection
from master.views import Topic
from schemas.registry import EventSchema, Schemas


@dataclass(frozen=True, slots=True)
class TopicAddress:
    """A topic and where it is. Fingerprints are hexadecimal, as on the wire.

    ``reader`` is the fingerprint of the schema that reads all of ``fingerprints``: of everything the topic
    has ever held. ``available`` is false while no gateway that writes to it can be reached.
    """

    broker_url: str
    topic: str
    site: str
    gateways: tuple[str, ...]
    channels: tuple[str, ...]
    fingerprints: tuple[str, ...]
    reader: str
    available: bool


@dataclass(frozen=True, slots=True)
class Selected:
    """Topics in the order of broker and name, and the schemas of all that was ever written to them."""

    topics: tuple[TopicAddress, ...]
    #: The shipped event schemas are in it too.
    schemas: Schemas

    def by_broker(self) -> dict[str, tuple[str, ...]]:
        """Names of topics by the URL of their broker."""
        found: dict[str, tuple[str, ...]] = {}
        for address in self.topics:
            found[address.broker_url] = (*found.get(address.broker_url, ()), address.topic)
        return found

    def reader(self, address: TopicAddress) -> EventSchema:
        """The schema that reads every event of a topic."""
        return self.schemas[bytes.fromhex(address.reader)]


def topics(http: Http, selection: Selection | str) -> list[TopicAddress]:
    """Raises `MasterError`, and `schemas.errors.ConfigurationError` for a selection that is none."""
    chosen = parse_selection(selection) if isinstance(selection, str) else selection
    return [
        TopicAddress(
            broker_url=topic.broker,
            topic=topic.topic,
            site=topic.site,
            gateways=tuple(topic.gateways),
            channels=tuple(topic.channels),
            fingerprints=tuple(topic.fingerprints),
            reader=topic.reader,
            available=topic.available,
        )
        for topic in http.get("/topics", list[Topic], chosen.parameters())
    ]


def select(http: Http, catalogue: Catalogue, selection: Selection | str) -> Selected:
    """`topics`, and their schemas."""
    found = topics(http, selection)
    needed = {fingerprint for address in found for fingerprint in address.fingerprints}
    return Selected(tuple(found), Schemas.with_shipped(map(catalogue.fetch, sorted(needed))))
