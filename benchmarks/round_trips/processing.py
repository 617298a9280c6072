"""``python -m benchmarks.round_trips.processing TOPIC GATEWAY``: what stands for a job between two brokers' topics.

Every frame of the topic is decoded, and for each of its events a command with the same content is published to the gateway;
then the frames are acknowledged. The results of commands are read as the master would. The broker is that of the variable
`BROKER`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Final

import msgspec

from brokers import Broker, Message, connect
from brokers.subscription import subscribe
from schemas.command import Command, encode_command
from schemas.frame import decode_frame, frame_fingerprint
from schemas.registry import Schemas, shipped
from schemas.topics import MASTER, PIPELINES, commands_topic, results_topic

#: The variable that holds the broker's URL.
BROKER: Final = "IOTCLOUD_BENCH_BROKER"
_MOST: Final = 100
#: µs
_DEADLINE: Final = 120_000_000


def main(topic: str, gateway: str) -> None:
    broker = connect(os.environ[BROKER])
    threading.Thread(target=_read_results, args=(broker, gateway), daemon=True).start()
    blob = shipped("Blob")
    schemas = Schemas([blob])
    commands = commands_topic(gateway)
    publisher = broker.publisher()
    reader = subscribe(broker, [topic], group=PIPELINES, start="beginning")
    while True:
        deliveries = reader.poll(max_messages=_MOST, timeout=5.0)
        messages = []
        for delivery in deliveries:
            if frame_fingerprint(delivery.value) != blob.fingerprint:
                continue  # the agent's own: that its epoch has begun
            for event in decode_frame(delivery.value, schemas).events:
                command = _command(gateway, f"{event['epoch']}-{event['seq']}", event["device"], event["value"])
                messages.append(Message(commands, command.device, encode_command(command)))
        if messages:
            publisher.publish(messages)
        if deliveries:
            reader.acknowledge(deliveries)


def _command(gateway: str, name: str, device: str, content: bytes) -> Command:
    now = time.time_ns() // 1_000
    args = msgspec.json.encode({"content": content.decode()}).decode()
    return Command(name, gateway, device, "echo", args, "bench", now, now + _DEADLINE)


def _read_results(broker: Broker, gateway: str) -> None:
    reader = subscribe(broker, [results_topic(gateway)], group=MASTER, start="beginning")
    while True:
        if deliveries := reader.poll(max_messages=_MOST, timeout=5.0):
            reader.acknowledge(deliveries)


if __name__ == "__main__":
    main(*sys.argv[1:])
