"""Sending a command: which gateway has the device, whether it takes the command, and off to its broker."""

from __future__ import annotations

import math
from typing import Any, Final
from uuid import UUID

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError as ArgumentsSchemaError
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry as References
from referencing.exceptions import Unresolvable

from master import views
from master.clock import Clock
from master.dispatch.dispatcher import Dispatcher
from master.errors import Ambiguous, Conflict, Invalid, NotFound
from master.identifiers import uuid7
from master.selection import Selection
from master.store import audit, commands
from master.store.database import Database
from master.store.devices import devices
from master.store.fleet import applications, gateway
from master.views import CommandRequest, Device
from schemas.command import Command
from schemas.rpc import CommandSpec

#: Seconds; a command that may run in a week is a schedule, not a command.
MAX_DEADLINE: Final = 86_400.0
MAX_ARGS_BYTES: Final = 64 * 1024


class Commander:
    """Takes orders for devices. Called from worker threads."""

    def __init__(self, database: Database, dispatcher: Dispatcher, clock: Clock) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._clock = clock

    def send(self, device: str, order: CommandRequest, *, actor: str) -> views.Command:
        """Write the order down and hand it to the sender of its broker.

        An order with the id of one that is there is the same order: it is not sent again. Raises `NotFound`,
        `Ambiguous`, `Invalid`, `Conflict` and `Busy`; nothing is sent then.
        """
        now = self._clock.wall()
        args = msgspec.json.encode(order.args).decode()
        self._check_form(order, args)
        with self._database.write() as connection:
            if order.id is not None and (known := commands.get(connection, order.id)) is not None:
                if (known.device, known.name, known.args) != (device, order.name, order.args):
                    raise Conflict(
                        f"command {order.id} is another one: {known.name} for {known.device}", remedy="give each an id of its own"
                    )
                return known
            found = self._find(connection, device, order.gateway)
            spec = self._spec(connection, found, order.name)
            _check_args(found, spec, order.args)
            command = Command(
                id=order.id or uuid7(now),
                gateway=found.gateway,
                device=device,
                name=order.name,
                args=args,
                issuer=order.issuer or actor,
                issued_at=now,
                deadline=now + round(order.deadline * 1_000_000),
            )
            commands.issue(connection, command)
            subject = f"device/{found.gateway}/{device}"
            audit.append(
                connection, time=now, actor=actor, action="command", subject=subject, detail=f"{command.id} {order.name} {args}"
            )
        try:
            self._dispatcher.send(command)
        except Exception as error:
            with self._database.write() as connection:
                commands.reach(connection, [command.id], views.UNSENT, str(error), time=self._clock.wall())
            raise
        with self._database.read() as connection:
            issued = commands.get(connection, command.id)
        assert issued is not None, "it was written above, and is not old enough to be given up"
        return issued

    @staticmethod
    def _check_form(order: CommandRequest, args: str) -> None:
        if not math.isfinite(order.deadline) or not 0 < order.deadline <= MAX_DEADLINE:
            raise Invalid(f"deadline {order.deadline:g} is not a number of seconds", remedy=f"above 0 and up to {MAX_DEADLINE:g}")
        size = len(args.encode())
        if size > MAX_ARGS_BYTES:
            raise Invalid(f"args are {size} bytes", remedy=f"{MAX_ARGS_BYTES} at most")
        if order.id is not None:
            try:
                UUID(order.id)
            except ValueError:
                raise Invalid(f"id {order.id!r} is not a UUID", remedy="leave it out, and the master makes one") from None

    @staticmethod
    def _find(connection: Any, device: str, wanted: str | None) -> Device:
        chosen = Selection(device=(device,), gateway=(wanted,) if wanted else ())
        found = devices(connection, chosen).items
        if not found:
            where = f" on gateway {wanted!r}" if wanted else ""
            raise NotFound(
                f"there is no device {device!r}{where}", remedy="GET /api/v1/devices lists them; one appears with its first event"
            )
        if len(found) > 1:
            there = [one for one in found if (owner := gateway(connection, one.gateway)) is not None and owner.state != "lost"]
            if len(there) != 1:
                names = ", ".join(sorted({one.gateway for one in found}))
                raise Ambiguous(f"several gateways have a device {device!r}: {names}", remedy='say which: "gateway": …')
            return there[0]
        return found[0]

    @staticmethod
    def _spec(connection: Any, device: Device, name: str) -> CommandSpec:
        chosen = Selection(gateway=(device.gateway,), application=(device.application,))
        specs = {spec.name: spec for application in applications(connection, chosen).items for spec in application.commands}
        if name not in specs:
            raise NotFound(
                f"device {device.device!r} ({device.application} on {device.gateway}) takes no command {name!r}",
                remedy="one of " + ", ".join(sorted(specs)) if specs else "its application takes none",
            )
        return specs[name]


def _check_args(device: Device, spec: CommandSpec, args: dict[str, Any]) -> None:
    if not spec.args:
        return
    try:
        # No references are followed: a schema must not make the master fetch from anywhere.
        validator = Draft202012Validator(spec.args, registry=References())
        problem: ValidationError | None = best_match(validator.iter_errors(args))
    except (ArgumentsSchemaError, Unresolvable, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # The driver has declared something that is no JSON schema: the gateway judges the arguments itself.
        return
    if problem is not None:
        where = "".join(f".{part}" for part in problem.absolute_path)
        raise Invalid(
            f"{spec.name} of {device.device}: args{where}: {problem.message[:300]}",
            remedy=f"its schema is at /api/v1/applications?gateway={device.gateway}&application={device.application}",
        )
