"""Making topics and subscriptions."""

from __future__ import annotations

from datetime import timedelta

import grpc
from google.pubsub_v1.types import ExpirationPolicy, GetSubscriptionRequest, Subscription, Topic

from brokers.errors import BrokerRefused
from brokers.pubsub.connection import CALL_FAILED, Connection
from brokers.pubsub.failures import code_of, describe
from brokers.pubsub.options import PubsubOptions


def create_topic(connection: Connection, path: str, topic: str, *, deadline: float) -> None:
    """Nothing happens when it is there. Raises `BrokerUnavailable` and `BrokerRefused`."""
    method = connection.calls().publisher.create_topic
    try:
        connection.start(method, Topic(name=path), resource=("name", path), deadline=deadline).result()
    except CALL_FAILED as error:
        if code_of(error) is not grpc.StatusCode.ALREADY_EXISTS:
            raise describe(error, url=connection.url, what=f"making the topic {topic!r}") from error


def ensure_subscription(
    connection: Connection, path: str, topic_path: str, topic: str, options: PubsubOptions, *, deadline: float
) -> None:
    """See that the subscription is there, made with its topic if need be, and that it keeps the order of keys.

    Nothing is made without the option ``create``, and nothing is checked where the account may not look: pulling from it
    will tell. Raises `BrokerUnavailable` and `BrokerRefused`.
    """
    if not options.create:
        return
    request = Subscription(
        name=path,
        topic=topic_path,
        ack_deadline_seconds=round(options.ack_deadline),
        enable_message_ordering=True,
        enable_exactly_once_delivery=options.exactly_once,
        message_retention_duration=timedelta(seconds=round(options.retention)),
        # Without a time to live in it: it never expires, however long its readers stay away.
        expiration_policy=ExpirationPolicy(),
    )
    method = connection.calls().subscriber.create_subscription
    for topic_made in (False, True):
        try:
            connection.start(method, request, resource=("name", path), deadline=deadline).result()
        except CALL_FAILED as error:
            code = code_of(error)
            if code is grpc.StatusCode.ALREADY_EXISTS:
                _check(connection, path, topic_path, topic, deadline=deadline)
            elif code is grpc.StatusCode.NOT_FOUND and not topic_made:
                create_topic(connection, topic_path, topic, deadline=deadline)
                continue
            elif code is not grpc.StatusCode.PERMISSION_DENIED:
                raise describe(error, url=connection.url, what=f"the subscription to topic {topic!r}") from error
        return


def _check(connection: Connection, path: str, topic_path: str, topic: str, *, deadline: float) -> None:
    method = connection.calls().subscriber.get_subscription
    request = GetSubscriptionRequest(subscription=path)
    try:
        found = connection.start(method, request, resource=("subscription", path), deadline=deadline).result()
    except CALL_FAILED as error:
        if code_of(error) is grpc.StatusCode.PERMISSION_DENIED:
            return
        raise describe(error, url=connection.url, what=f"the subscription to topic {topic!r}") from error
    problem = ""
    if found.topic != topic_path:
        problem = "belongs to a topic that was deleted"
    elif not found.enable_message_ordering:
        problem = "does not keep the order of messages"
    if problem:
        raise BrokerRefused(
            f"{connection.url}: topic {topic!r}: the subscription {path} {problem}",
            remedy=f"delete it, and it is made anew: gcloud pubsub subscriptions delete {path}",
        )
