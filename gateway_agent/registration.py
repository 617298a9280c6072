"""What the master is told: who the gateway is, once a connection, and how it is, with every heartbeat."""

from __future__ import annotations

from collections.abc import Sequence

from gateway_agent.config import Loaded
from gateway_agent.host.application import Status
from gateway_agent.outbox import OutboxState, wall_clock
from gateway_agent.wiring import describe
from schemas import rpc
from schemas.ledger import TopicLedger


def registration(loaded: Loaded, epoch: int, version: str, applications: Sequence[Status]) -> rpc.Register:
    config = loaded.config
    return rpc.Register(
        gateway=config.gateway.id,
        site=config.gateway.site,
        epoch=epoch,
        version=version,
        transports=tuple(rpc.Transport(name, loaded.written_urls.get(name, "")) for name in config.transports),
        commands_transport=loaded.default_transport,
        applications=tuple(describe(loaded, one.name, one.hello) for one in applications),
        labels=config.gateway.labels,
    )


def heartbeat(gateway: str, outbox: OutboxState, applications: Sequence[Status]) -> rpc.Heartbeat:
    return rpc.Heartbeat(
        gateway=gateway,
        epoch=outbox.epoch,
        time=wall_clock(),
        applications=tuple(rpc.ApplicationStatus(one.name, one.state, one.restarts, one.detail) for one in applications),
        devices=tuple(
            rpc.DeviceSeen(device, one.name, tuple(sorted(channels)))
            for one in applications
            for device, channels in sorted(one.devices.items())
        ),
        outbox=rpc.OutboxStatus(
            accepted=outbox.accepted,
            published=outbox.published,
            buffered_events=outbox.buffered_events,
            buffered_bytes=outbox.buffered_bytes,
            dropped=outbox.dropped,
            damaged=outbox.damaged,
            topics=tuple(TopicLedger(one.topic, one.epoch, one.next_seq, one.accepted, one.buffered) for one in outbox.topics),
        ),
    )
