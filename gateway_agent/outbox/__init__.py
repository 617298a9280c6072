"""The store and forward of a gateway: events are accepted to disk and leave in order (`Outbox`)."""

from gateway_agent.outbox.layout import OutboxDamaged, OutboxError
from gateway_agent.outbox.outbox import Outbox, wall_clock
from gateway_agent.outbox.records import Batch, Choice, Held, Offer, OutboxState, Route, TopicCounts, WhenFull

__all__ = [
    "Batch",
    "Choice",
    "Held",
    "Offer",
    "Outbox",
    "OutboxDamaged",
    "OutboxError",
    "OutboxState",
    "Route",
    "TopicCounts",
    "WhenFull",
    "wall_clock",
]
