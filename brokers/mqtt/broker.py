"""`MqttBroker`: an MQTT server of version 5."""

from __future__ import annotations

import time
from collections.abc import Sequence

from brokers.contract import Capabilities, LogReader, Publisher, QueueReader, not_a_log
from brokers.mqtt.caution import Caution
from brokers.mqtt.options import target_of
from brokers.mqtt.publisher import MqttPublisher
from brokers.mqtt.reader import MqttReader, Turns
from brokers.mqtt.sessions import forget, keep
from brokers.url import BrokerUrl
from schemas.topics import check_topic


class MqttBroker:
    """Raises `ConfigurationError` for a wrong URL or option."""

    def __init__(self, url: BrokerUrl) -> None:
        self._target = target_of(url)
        self._turns = Turns()
        self._caution = Caution()

    @property
    def url(self) -> str:
        return self._target.shown

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            log=False,
            creates_topics=True,
            durable=True,
            max_message_bytes=self._target.options.max_message_bytes,
            notes="a topic keeps nothing by itself: a group gets what is published after its first subscription; durable as far"
            " as the server keeps its sessions on disk (mosquitto: persistence, autosave_on_changes, autosave_interval 1)",
        )

    def create_topic(self, topic: str, *, partitions: int = 1, timeout: float = 30.0) -> None:  # noqa: ARG002
        """Nothing to do: topics of MQTT are names. Raises `ConfigurationError` for what is no topic."""
        check_topic(topic)

    def keep(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """See `brokers.contract.Broker.keep`: the user of this URL must have the right to read the topics."""
        keep(self._target, topics, group, deadline=time.monotonic() + timeout)

    def forget(self, topics: Sequence[str], *, group: str, timeout: float = 30.0) -> None:
        """See `brokers.contract.Broker.forget`."""
        forget(self._target, topics, group, deadline=time.monotonic() + timeout)

    def publisher(self) -> Publisher:
        return MqttPublisher(self._target, self._caution)

    def log_reader(self) -> LogReader:
        raise not_a_log(self.url)

    def queue_reader(self, topics: Sequence[str], *, group: str) -> QueueReader:
        """One reader of a group is served, others of this process stand by; one of another process takes over."""
        return MqttReader(self._target, topics, group, self._turns)
