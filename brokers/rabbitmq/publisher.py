"""Publishing: everything in flight at once, then waiting for the server to confirm it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from brokers.contract import Message
from brokers.doubts import Doubts
from brokers.errors import BrokerError, PublishError, not_stored
from brokers.rabbitmq.confirms import Confirms
from brokers.rabbitmq.connector import Connector
from brokers.rabbitmq.failures import LinkFailed, size_limit
from brokers.rabbitmq.kept import Kept
from brokers.rabbitmq.link import Link
from brokers.rabbitmq.sending import MAX_KEY_BYTES, Sending
from brokers.rabbitmq.topology import Topology
from schemas.errors import ConfigurationError
from schemas.topics import check_topic
from telemetry.logs import logger


class RabbitPublisher:
    """See `brokers.contract.Publisher`."""

    def __init__(self, connector: Connector, doubts: Doubts, kept: Kept) -> None:
        self._connector = connector
        self._doubts = doubts
        self._kept = kept
        self._options = connector.address.options
        self._confirms: Confirms | None = None
        self._log = logger("rabbitmq", broker=connector.address.url)

    def publish(self, messages: Sequence[Message], *, timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        refused = self._refusals(messages)
        indexes = [index for index in range(len(messages)) if index not in refused]
        others, doubtful = self._doubts.split(messages, indexes)
        sending = Sending(messages, others, doubtful)
        failure: BrokerError | None = None
        if indexes:
            failure = self._send(messages, sending, deadline, refused)
            self._doubts.add(sending.barred)
            for topic, members in doubtful.items():
                self._doubts.tried(topic, taken=sending.stored(members[0]))
        missing = sending.missing() if failure else []
        if missing or refused:
            raise not_stored(len(messages), dict.fromkeys(missing, failure) if failure else {}, refused)

    def close(self) -> None:
        self._connector.close()

    def _send(
        self, messages: Sequence[Message], sending: Sending, deadline: float, refused: dict[int, BrokerError | ConfigurationError]
    ) -> BrokerError | None:
        """Why not all was confirmed, if so. Whatever is refused by the server for its size goes to ``refused``."""
        about = f"topic {messages[sending.missing()[0]].topic!r}"
        try:
            link = self._connector.link(deadline, about)
        except BrokerError as error:
            return error
        try:
            self._ready(link, deadline).send(sending, deadline)
        except (LinkFailed, TimeoutError) as error:
            link.fail(error)
            if isinstance(error, LinkFailed) and (limit := size_limit(error.cause)) is not None:
                for index in sending.missing():
                    if len(messages[index].value) > limit:
                        refused[index] = self._too_large(messages[index], limit, "raise max_message_size of the server")
            return self._connector.describe(about, error)
        if sending.returned:
            return self._restored(link, sending.returned, deadline)
        if sending.rejected:
            return PublishError(
                f"{self._connector.address.url}: topic {min(sending.rejected)!r}: a queue of the topic is full",
                unacknowledged=(),
                remedy="see why it is not read (rabbitmqctl list_queues name messages policy), or raise the limit in its policy",
            )
        return None

    def _restored(self, link: Link, topics: set[str], deadline: float) -> BrokerError:
        """Make the queues anew that this process knows of; why something was not stored."""
        url, topic = self._connector.address.url, min(topics)
        gone = {each: groups for each in topics if (groups := self._kept.groups(each))}
        if not gone:
            return PublishError(
                f"{url}: topic {topic!r}: it is kept for no group",
                unacknowledged=(),
                remedy="start a reader of it, or leave out unread=refuse",
            )
        try:
            for each, groups in gone.items():
                for group in groups:
                    Topology(link, self._options).queue(group, each, deadline)
        except (LinkFailed, TimeoutError) as error:
            link.fail(error)
            return self._connector.describe(f"topic {min(gone)!r}", error)
        names = ", ".join(sorted(gone[min(gone)]))
        self._log.warning("the server had lost the queues of a topic: they are made anew", topics=sorted(gone))
        return PublishError(
            f"{url}: topic {min(gone)!r}: its queue for {names} was gone, and has been made anew",
            unacknowledged=(),
            remedy="publish it again",
        )

    def _ready(self, link: Link, deadline: float) -> Confirms:
        """The link's channel for publishing."""
        if self._confirms is None or self._confirms.channel.link is not link:
            Topology(link, self._options).exchange(deadline)
            refuse = self._options.unread == "refuse"
            self._confirms = Confirms(link.channel(deadline), deadline, kept=self._kept, refuse=refuse, unread=self._warn)
        return self._confirms

    def _warn(self, topic: str) -> None:
        self._log.warning("dropped by the server: the topic is kept for no group", topic=topic)

    def _refusals(self, messages: Sequence[Message]) -> dict[int, BrokerError | ConfigurationError]:
        """What is wrong with those that no server would take."""
        found = ((index, self._problem(message)) for index, message in enumerate(messages))
        return {index: problem for index, problem in found if problem is not None}

    def _problem(self, message: Message) -> BrokerError | ConfigurationError | None:
        if len(message.value) > self._options.max_message_bytes:
            return self._too_large(message, self._options.max_message_bytes, "raise max_message_bytes in the URL")
        try:
            check_topic(message.topic)
            if len(message.key.encode()) <= MAX_KEY_BYTES:
                return None
        except ConfigurationError as error:
            return error
        except UnicodeEncodeError:
            pass
        return PublishError(
            f"{self._connector.address.url}: topic {message.topic!r}: a key that cannot be sent",
            unacknowledged=(),
            remedy=f"use text of at most {MAX_KEY_BYTES} bytes in UTF-8",
        )

    def _too_large(self, message: Message, limit: int, remedy: str) -> PublishError:
        return PublishError(
            f"{self._connector.address.url}: topic {message.topic!r}: a message of {len(message.value)} bytes is too large,"
            f" {limit} are allowed",
            unacknowledged=(),
            remedy=remedy,
        )
