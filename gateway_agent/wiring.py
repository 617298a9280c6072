"""From an application's channels and its configuration to topics, routes and what the master is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from brokers import Broker
from gateway_agent.config import ChannelSection, Loaded, nearest
from gateway_agent.host.application import Wiring
from gateway_agent.host.messages import MAX_BATCH_BYTES, ChannelSpec, Hello
from gateway_agent.outbox import Route
from schemas import rpc
from schemas.errors import ConfigurationError
from schemas.frame import MAX_BYTES
from schemas.registry import event_schema
from schemas.topics import event_topic

#: What a frame of one event has beside what the driver encoded, at most.
_AROUND: Final = 512
#: Stands for the device in the topic of a channel whose devices have topics of their own.
_DEVICE: Final = "{device}"


def wire(loaded: Loaded, application: str, hello: Hello, brokers: Mapping[str, Broker]) -> Wiring:
    """Where the events of an application go. Raises `ConfigurationError` when its channels cannot be as configured."""
    section = loaded.config.applications[application]
    names = [channel.name for channel in hello.channels]
    for name in section.channels:
        if name not in names:
            raise loaded.error(
                ("applications", application, "channels", name),
                f"the driver has no channel {name!r}",
                remedy=nearest(name, names),
            )
    sections = {channel.name: section.channels.get(channel.name, ChannelSection()) for channel in hello.channels}
    routing = {}
    limits = [MAX_BATCH_BYTES - _AROUND]
    for channel in hello.channels:
        transport = transport_of(loaded, application, channel.name)
        limit = brokers[transport].capabilities.max_message_bytes
        if limit is not None:
            limits.append(limit - _AROUND)
        routing[channel.name] = _route(loaded, application, channel, transport, min(MAX_BYTES, limit or MAX_BYTES))
        if sections[channel.name].grouping == "single":
            _check_devices(loaded, application, channel.name, hello.devices)
    return Wiring(
        route=_remembered(routing),
        single=tuple(name for name, one in sections.items() if one.grouping == "single"),
        max_event_bytes=min(limits),
    )


def transport_of(loaded: Loaded, application: str, channel: str) -> str:
    """The transport of a channel: its own, the application's, or the gateway's."""
    section = loaded.config.applications[application]
    own = section.channels[channel].transport if channel in section.channels else ""
    return own or section.transport or loaded.default_transport


def describe(loaded: Loaded, application: str, hello: Hello | None) -> rpc.Application:
    """What the master is told of an application; one that has not said what it is has no channels."""
    section = loaded.config.applications[application]
    if hello is None:
        return rpc.Application(application, section.driver, "")
    channels = []
    for channel in hello.channels:
        grouping = section.channels.get(channel.name, ChannelSection()).grouping
        topic = event_topic(loaded.config.gateway.site, application, channel.name)
        if grouping == "single":
            prefix, _, name = topic.rpartition(".")
            topic = f"{prefix}.{_DEVICE}.{name}"
        channels.append(
            rpc.Channel(
                name=channel.name,
                topic=topic,
                grouping=grouping,
                direction=channel.direction,
                transport=transport_of(loaded, application, channel.name),
                schema=channel.schema,
            )
        )
    commands = tuple(rpc.CommandSpec(one.name, one.args) for one in hello.commands)
    return rpc.Application(application, section.driver, hello.version, tuple(channels), commands)


def _route(
    loaded: Loaded, application: str, channel: ChannelSpec, transport: str, max_frame_bytes: int
) -> Callable[[str], Route]:
    config = loaded.config
    section = config.applications[application].channels.get(channel.name, ChannelSection())
    schema = event_schema(channel.schema, origin=f"channel {channel.name}")
    # Checked now, not with the first event.
    event_topic(config.gateway.site, application, channel.name)

    def route(device: str) -> Route:
        topic = event_topic(config.gateway.site, application, channel.name, device=device or None)
        return Route(topic, transport, schema, section.when_full or config.outbox.when_full, max_frame_bytes)

    return route


def _check_devices(loaded: Loaded, application: str, channel: str, devices: tuple[str, ...]) -> None:
    """Whether the devices known beforehand can have topics of their own. Raises `ConfigurationError`."""
    for device in devices:
        try:
            event_topic(loaded.config.gateway.site, application, channel, device=device)
        except ConfigurationError as error:
            at = ("applications", application, "channels", channel, "grouping")
            raise loaded.error(at, f"a topic per device: {error.message}", remedy=error.remedy) from None


def _remembered(of: Mapping[str, Callable[[str], Route]]) -> Callable[[str, str], Route]:
    """The route of a channel's device, remembered: asked for every batch."""
    known: dict[tuple[str, str], Route] = {}

    def route(channel: str, device: str) -> Route:
        found = known.get((channel, device))
        if found is None:
            found = known[channel, device] = of[channel](device)
        return found

    return route
