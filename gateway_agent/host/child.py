"""``python -m gateway_agent.host.child FD``: the process of one application."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from gateway_agent.driver import Command, CommandFailed, Driver, Stopped
from gateway_agent.find import channel_schema, find_driver, make_driver
from gateway_agent.host.context import ChildContext
from gateway_agent.host.encoding import event_encoder
from gateway_agent.host.link import Link, LinkBroken
from gateway_agent.host.messages import (
    BEAT,
    Ack,
    Beat,
    ChannelSpec,
    CommandTaken,
    End,
    Execute,
    Executed,
    Go,
    Hello,
    Start,
    Stop,
    ToChild,
)
from schemas.errors import ConfigurationError, IoTCloudError
from schemas.topics import event_topic
from settings import lines_of
from telemetry.stopping import die_with_parent

#: Seconds in which the agent, when it is stopping, has to put the last events on its disk.
_LAST_WORDS: Final = 30.0


def main(arguments: list[str]) -> int:
    """Run one application until it ends or the agent is gone."""
    # The end of the socket would come too late for a driver that hangs.
    die_with_parent(int(arguments[1]))
    # A Ctrl-C at the agent's terminal reaches its children too; it is the agent that stops them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link: Link[ToChild] = Link(socket.socket(fileno=int(arguments[0])), ToChild)
    try:
        return Child(link).run()
    except LinkBroken:
        return 1


class Child:
    """One driver, from its first message to its last."""

    def __init__(self, link: Link[ToChild]) -> None:
        self._link = link
        self._commands: queue.SimpleQueue[Execute] = queue.SimpleQueue()

    def run(self) -> int:
        start = self._link.receive(60.0)
        if not isinstance(start, Start):
            return 1
        try:
            driver, context = self._make(start)
        except ConfigurationError as error:
            self._end("refused", str(error))
            return 2
        except Exception as error:  # noqa: BLE001  (whatever a driver's code raises is reported)
            self._end("failed", _describe(error))
            return 1
        threading.Thread(target=self._beat, args=(driver, context), name="beat", daemon=True).start()
        threading.Thread(target=self._listen, args=(context,), name="listen", daemon=True).start()
        threading.Thread(target=self._execute, args=(driver, context), name="commands", daemon=True).start()
        return self._drive(driver, context)

    def _make(self, start: Start) -> tuple[Driver[Any], ChildContext]:
        sys.path.append(start.folder)  # drivers may stand beside the configuration
        driver_class = find_driver(start.driver)
        driver = make_driver(
            driver_class, start.settings, origin=start.origin, application=start.application, lines=_lines(start.origin)
        )
        schemas = {
            channel.name: channel_schema(channel, driver_class, override=start.schemas.get(channel.name), folder=start.folder)
            for channel in driver.channels
        }
        channels = tuple(ChannelSpec(one.name, schemas[one.name].text, one.direction) for one in driver.channels)
        commands = tuple(CommandTaken(one.name, _json_schema(one.args)) for one in driver.commands)
        self._link.send(Hello(_version(driver_class), channels, commands, tuple(driver.devices())))
        while not isinstance(go := self._link.receive(60.0), Go):
            if go is None or isinstance(go, Stop):
                raise LinkBroken("was not told to begin")
            if isinstance(go, Execute):
                # The agent counts the driver as running when it has decided on `Go`, and may be quicker with a command.
                self._commands.put(go)
        encoders = {name: event_encoder(schema, name) for name, schema in schemas.items()}
        context = ChildContext(
            self._link.send,
            encoders=encoders,
            topics={name: partial(event_topic, start.site, start.application, name) for name in go.single},
            stored=go.state,
            max_event_bytes=go.max_event_bytes,
        )
        return driver, context

    def _drive(self, driver: Driver[Any], context: ChildContext) -> int:
        try:
            driver.run(context)
            stopped = context.stopping
            # A full outbox is waited for, as by `emit`: what has been read to its end must not fail for that.
            while not context.flush(_LAST_WORDS):
                if context.stopping:
                    self._end("failed", f"the last events were not on disk after {_LAST_WORDS:g} s")
                    return 1
        except (Stopped, LinkBroken):
            return 1
        except ConfigurationError as error:
            self._end("refused", str(error))
            return 2
        except Exception as error:  # noqa: BLE001
            with contextlib.suppress(Exception):
                # What was emitted before the error counts; it is the driver's state that says where to go on.
                context.flush(5.0)
            self._end("failed", _describe(error))
            return 1
        self._end("stopped" if stopped else "finished", "stopped" if stopped else "finished")
        return 0

    def _listen(self, context: ChildContext) -> None:
        try:
            while True:
                message = self._link.receive()
                if isinstance(message, Ack):
                    context.outgoing.acknowledged(message.number)
                elif isinstance(message, Execute):
                    self._commands.put(message)
                elif isinstance(message, Stop):
                    context.stop()
        except LinkBroken:
            context.stop()
            context.outgoing.lost()
            # Nothing of what the driver may still do would reach anybody.
            time.sleep(1.0)
            os._exit(1)

    def _execute(self, driver: Driver[Any], context: ChildContext) -> None:
        context.at_work.wait()
        specs = {spec.name: spec for spec in driver.commands}
        while True:
            asked = self._commands.get()
            step: Literal["done", "failed", "expired"] = "failed"
            try:
                if asked.deadline < time.time_ns() // 1_000:
                    step, detail = "expired", "its turn came after its deadline"
                else:
                    if asked.name not in specs:
                        raise CommandFailed(f"no command {asked.name!r}; there are: {', '.join(specs) or 'none'}")
                    args = _arguments(specs[asked.name].args, asked.args)
                    result = driver.on_command(Command(asked.id, asked.device, asked.name, args, asked.deadline))
                    step, detail = "done", msgspec.json.encode(result).decode()
            except CommandFailed as error:
                detail = error.message
            except IoTCloudError as error:
                detail = str(error)
            except Exception as error:  # noqa: BLE001  (a command that fails does not end the application)
                detail = _describe(error)
            with contextlib.suppress(LinkBroken):
                self._link.send(Executed(asked.id, step, detail))

    def _beat(self, driver: Driver[Any], context: ChildContext) -> None:
        with contextlib.suppress(LinkBroken):
            while True:
                silent = time.monotonic() - context.used
                if driver.watchdog is None or silent < driver.watchdog or context.outgoing.waiting:
                    self._link.send(Beat())
                time.sleep(BEAT)

    def _end(self, kind: Any, detail: str) -> None:
        with contextlib.suppress(LinkBroken):
            self._link.send(End(kind, detail))


def _lines(origin: str) -> dict[tuple[str, ...], int]:
    """Where the settings stand in the configuration, for errors; nothing if it cannot be read here."""
    try:
        return lines_of(Path(origin).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _arguments(spec: Any, text: str) -> Any:
    try:
        if isinstance(spec, type):
            return msgspec.json.decode(text or "{}", type=spec)
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise CommandFailed(f"arguments: {error}") from None


def _json_schema(args: Any) -> dict[str, Any]:
    if not isinstance(args, type):
        return dict(args)
    schema, definitions = msgspec.json.schema_components([args], ref_template="#/$defs/{name}")
    name = schema[0].get("$ref", "").rsplit("/", 1)[-1]
    own = dict(definitions.pop(name, schema[0]))
    return {**own, "$defs": definitions} if definitions else own


def _version(driver_class: type[Driver[Any]]) -> str:
    module = sys.modules[driver_class.__module__]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return str(getattr(module, "__version__", None) or importlib.metadata.version(module.__name__.partition(".")[0]))
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("iotcloud")
    return "0"


def _describe(error: BaseException) -> str:
    if isinstance(error, IoTCloudError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
