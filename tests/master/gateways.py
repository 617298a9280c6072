"""A small gateway: a real WebSocket that speaks `schemas.rpc`, and a real broker for its events and commands."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import brokers
from brokers.subscription import subscribe
from schemas import rpc
from schemas.command import Command, CommandState, Step, decode_command, encode_command_state
from schemas.frame import encode_frame
from schemas.registry import EventSchema, shipped
from schemas.topics import commands_topic, event_topic, results_topic

OUTBOX = rpc.OutboxStatus(accepted=1, published=1, buffered_events=0, buffered_bytes=0, dropped=0, damaged=0)
_numbers = itertools.count(1)


def registration(
    gateway: str,
    broker_url: str,
    *,
    site: str = "plant-a",
    epoch: int = 1,
    labels: dict[str, str] | None = None,
    channels: tuple[str, ...] = ("pressure", "temperature"),
    schema: EventSchema | None = None,
    single: tuple[str, ...] = (),
    application: str = "pumps",
) -> rpc.Register:
    """A gateway with one application."""
    text = (schema or shipped("Reading")).text
    return rpc.Register(
        gateway=gateway,
        site=site,
        epoch=epoch,
        version="0.1.0",
        transports=(rpc.Transport("main", broker_url),),
        commands_transport="main",
        applications=(
            rpc.Application(
                name=application,
                driver="simulated",
                version="1",
                channels=tuple(
                    rpc.Channel(
                        name=name,
                        topic=f"{site}.{application}.{{device}}.{name}" if name in single else f"{site}.{application}.{name}",
                        grouping="single" if name in single else "grouped",
                        direction="in",
                        transport="main",
                        schema=text,
                    )
                    for name in channels
                ),
                commands=(
                    rpc.CommandSpec(
                        "set_speed",
                        {"type": "object", "properties": {"rpm": {"type": "number", "maximum": 3000}}, "required": ["rpm"]},
                    ),
                    rpc.CommandSpec("stop"),
                ),
            ),
        ),
        labels=labels or {},
    )


class RpcGateway:
    """Connects when made. Answers the master's calls with ``answers`` by method."""

    def __init__(self, url: str, token: str | None, answers: dict[str, Callable[[], object]] | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.socket: ClientConnection = connect(
            url.replace("http", "ws", 1) + rpc.PATH, additional_headers=headers, max_size=rpc.MAX_MESSAGE_BYTES, open_timeout=20
        )
        self.answers = answers or {"ping": dict, "get_status": lambda: {"state": "fine"}, "list": list}
        self.notifications: list[dict[str, Any]] = []
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self.unasked: Future[dict[str, Any]] = Future()
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def ask(self, method: str, params: object) -> dict[str, Any]:
        """The response to a call, whatever it is."""
        number = next(_numbers)
        future = self._waiting[number] = Future()
        self.send(msgspec.json.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).decode())
        return future.result(30)

    def send(self, text: str | bytes) -> None:
        self.socket.send(text)

    def register(self, message: rpc.Register) -> rpc.Registered:
        response = self.ask("register", message)
        assert "error" not in response, response
        return msgspec.convert(response["result"], rpc.Registered)

    def heartbeat(
        self,
        gateway: str,
        *,
        epoch: int = 1,
        devices: tuple[str, ...] = (),
        channels: tuple[str, ...] = ("pressure",),
        state: rpc.ApplicationState = "running",
        application: str = "pumps",
    ) -> dict[str, Any]:
        seen = tuple(rpc.DeviceSeen(device, application, channels) for device in devices)
        message = rpc.Heartbeat(
            gateway, epoch, time.time_ns() // 1_000, (rpc.ApplicationStatus(application, state),), seen, OUTBOX
        )
        return self.ask("heartbeat", message)

    def closed(self) -> tuple[int, str]:
        """Code and reason with which the master closed; waits for it."""
        self._thread.join(30)
        assert not self._thread.is_alive(), "the master has not closed the connection"
        close = self.socket.protocol.close_rcvd
        return (close.code, close.reason) if close else (1006, "")

    def close(self) -> None:
        self.socket.close()
        self._thread.join(10)

    def _receive(self) -> None:
        try:
            for text in self.socket:
                self._take(json.loads(text))
        except ConnectionClosed:
            pass
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ConnectionError("closed"))

    def _take(self, message: dict[str, Any]) -> None:
        if "method" not in message:
            future = self._waiting.pop(message.get("id") or 0, None) or self.unasked
            future.set_result(message)
        elif "id" not in message:
            self.notifications.append(message)
        elif message["method"] in self.answers:
            result = self.answers[message["method"]]()
            self.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}))


class Actuator:
    """Executes a gateway's commands from its topic: ``accepted``, ``started``, and what ``act`` says."""

    def __init__(self, gateway: str, broker_url: str, act: Callable[[Command], tuple[Step, str]]) -> None:
        self.gateway = gateway
        self.executed: list[Command] = []
        self._act = act
        self._broker = brokers.connect(broker_url)
        self._reader = subscribe(self._broker, [commands_topic(gateway)], group=gateway, start="beginning")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(10)
        self._reader.close()

    def _run(self) -> None:
        publisher = self._broker.publisher()
        while not self._stopping.is_set():
            deliveries = self._reader.poll(max_messages=100, timeout=0.2)
            for delivery in deliveries:
                command = decode_command(delivery.value)
                if command.id in {one.id for one in self.executed}:
                    continue
                self.executed.append(command)
                steps: list[tuple[Step, str]] = [("accepted", ""), ("started", ""), self._act(command)]
                publisher.publish([state_message(command.id, self.gateway, command.device, *step) for step in steps])
            self._reader.acknowledge(deliveries)
        publisher.close()


def state_message(id: str, gateway: str, device: str, step: Step, detail: str = "") -> brokers.Message:  # noqa: A002
    state = CommandState(id, gateway, device, step, time.time_ns() // 1_000, detail)
    return brokers.Message(results_topic(gateway), id, encode_command_state(state))


def publish_readings(
    broker_url: str,
    gateway: str,
    device: str,
    values: list[float],
    *,
    first: int = 0,
    site: str = "plant-a",
    channel: str = "pressure",
    schema: EventSchema | None = None,
    more: dict[str, Any] | None = None,
) -> bytes:
    """Publish one frame of readings and return it."""
    events = [
        {
            "gateway": gateway,
            "epoch": 1,
            "seq": first + position,
            "gateway_time": 1_700_000_000_000_000 + position,
            "device": device,
            "channel": channel,
            "event_time": 1_700_000_000_000_000 + position,
            "value": value,
            **(more or {}),
        }
        for position, value in enumerate(values)
    ]
    frame = encode_frame(schema or shipped("Reading"), events)
    publish(broker_url, event_topic(site, "pumps", channel), gateway, frame)
    return frame


def publish(broker_url: str, topic: str, key: str, value: bytes) -> None:
    publisher = brokers.connect(broker_url).publisher()
    try:
        publisher.publish([brokers.Message(topic, key, value)])
    finally:
        publisher.close()


def broker_in(directory: Path) -> str:
    return f"local:{directory / 'broker'}"


def until(condition: Callable[[], Any], *, within: float = 30.0) -> Any:
    """The first true value of ``condition``; fails when there is none in time."""
    end = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found
