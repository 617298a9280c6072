"""What gateways say that they have accepted: from their outboxes, from files made of these, or as a master was told last."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

from master.client import Client
from schemas.errors import ConfigurationError
from schemas.ledger import GatewayLedger
from schemas.registry import Schemas

_READ_WITHIN: Final = 600.0


def of_place(place: Path) -> GatewayLedger:
    """The ledger of an outbox (data directory, configuration, or its file), or one that was printed into ``*.json``.

    How an outbox lies on disk is the agent's own affair, so the agent's command reads it. Raises `ConfigurationError`.
    """
    if place.suffix == ".json":
        try:
            return msgspec.json.decode(place.read_bytes(), type=GatewayLedger)
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigurationError(
                f"{place}: {error}", remedy="write it with 'iotcloud gateway outbox ledger gateway.toml > FILE.json'"
            ) from error
    command = [sys.executable, "-m", "gateway_agent", "outbox", "ledger", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_READ_WITHIN, check=False)
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(f"{place}: not read within {_READ_WITHIN:g} s") from error
    if done.returncode != 0:
        message, _, remedy = done.stderr.decode(errors="replace").strip().partition("\nTry: ")
        raise ConfigurationError(message.removeprefix("Error: "), remedy=remedy)
    return msgspec.json.decode(done.stdout, type=GatewayLedger)


def of_master(url: str, token: str) -> tuple[list[GatewayLedger], list[str], Schemas]:
    """Ledgers of the gateways that a master knows, those that tell it none, and all schemas. Raises `IoTCloudError`."""
    ledgers: list[GatewayLedger] = []
    silent: list[str] = []
    with Client(url, token or None) as client:
        for gateway in client.gateways():
            if gateway.outbox is None or (gateway.outbox.accepted and not gateway.outbox.topics):
                silent.append(gateway.gateway)
            else:
                ledgers.append(GatewayLedger(gateway.gateway, gateway.seen_time, gateway.outbox.topics))
        return ledgers, silent, client.select().schemas
