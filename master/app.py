"""The application: routes, services, and the gate in front of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from master.clock import Clock
from master.config import KEEP_COMMANDS
from master.control.handler import gateway_socket
from master.gate import Gate
from master.leases import Terms
from master.rest import commands, fleet, operations, parameters, problems, topics, watch
from master.rest.description import Document
from master.rest.reference import ReferencePage
from master.security import Credentials
from master.services import Services, running
from master.store.database import Database
from schemas.errors import IoTCloudError

MAX_BODY_BYTES: Final = 1024 * 1024


def make_app(
    database: Database,
    terms: Terms,
    credentials: Credentials,
    *,
    clock: Clock | None = None,
    keep_commands: float = KEEP_COMMANDS,
) -> Gate:
    """The master as an ASGI application over an open database. ``keep_commands`` is in seconds."""
    held: list[Services] = []

    def services() -> Services:
        return held[0]

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        async with running(database, terms, clock or Clock(), keep_commands=keep_commands) as started:
            held.append(started)
            gate.services = started
            yield

    interface = Router(
        "/api/v1",
        route_handlers=[*fleet.HANDLERS, *topics.HANDLERS, *commands.HANDLERS, *watch.HANDLERS, *operations.HANDLERS],
    )
    app = Litestar(
        [interface, gateway_socket, *operations.OPEN_HANDLERS],
        dependencies={
            "services": Provide(services, sync_to_thread=False),
            "chosen": Provide(parameters.chosen, sync_to_thread=False),
            "actor": Provide(parameters.actor, sync_to_thread=False),
        },
        exception_handlers={
            IoTCloudError: problems.refused,
            HTTPException: problems.rejected,
            RecursionError: problems.too_deep,
            Exception: problems.failed,
        },
        lifespan=[lifespan],
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title="IoTCloud master",
            version=_version(),
            description="Sites, gateways, applications, devices, channels, topics, schemas; and commands to devices. "
            "Times are µs since 1970, UTC. Lists come in parts: give `next` back as `after`.",
            components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
            security=[{"token": []}],
            render_plugins=[ReferencePage(path="/"), Document()],
            use_handler_docstrings=True,
        ),
        request_max_body_size=MAX_BODY_BYTES,
    )
    gate = Gate(app, credentials)
    return gate


def _version() -> str:
    try:
        return version("iotcloud")
    except PackageNotFoundError:
        return "0"
