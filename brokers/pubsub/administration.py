"""Making topics and subscriptions."""

from __future__ import annotations

from datetime import timedelta

import grpc
from google.pubsub_v1 import types

from brokers.errors import BrokerRefused
from brokers.pubsub.connection import CALL_FAILED, Connection
from brokers.pubsub.failures import code_of, describe
from brokers.pubsub.names import Subscription
from brokers.pubsub.options import PubsubOptions


def create_topic(connection: Connection, path: str, topic: str, *, deadline: float) -> None:
    """Nothing happens when it is there. Raises `BrokerUnavailable` and `BrokerRefused`."""
    method = connection.calls().publisher.create_topic
    try:
        connection.start(method, types.Topic(name=path), resource=("name", path), deadline=deadline).result()
    except CALL_FAILED as error:
        if code_of(error) is not grpc.StatusCode.ALREADY_EXISTS:
            raise describe(error, url=connection.url, what=f"making the topic {topic!r}") from error


def ensure_subscription(connection: Connection, subscription: Subscription, options: PubsubOptions, *, deadline: float) -> None:
    """See that the subscription is there and keeps the order of keys. It is made, with its topic, if the URL lets one.

    What the account may not look at is taken to be there: pulling from it will tell. Raises `BrokerUnavailable` and
    `BrokerRefused`.
    """
    if not options.create:
        _check(connection, subscription, deadline=deadline)
        return
    request = types.Subscription(
        name=subscription.path,
        topic=subscription.topic_path,
        ack_deadline_seconds=round(options.ack_deadline),
        enable_message_ordering=True,
        enable_exactly_once_delivery=options.exactly_once,
        message_retention_duration=timedelta(seconds=round(options.retention)),
        # Without a time to live in it: it never expires, however long its readers stay away.
        expiration_policy=types.ExpirationPolicy(),
    )
    method = connection.calls().subscriber.create_subscription
    for topic_made in (False, True):
        try:
            connection.start(method, request, resource=("name", subscription.path), deadline=deadline).result()
        except CALL_FAILED as error:
            code = code_of(error)
            if code is grpc.StatusCode.NOT_FOUND and not topic_made:
                create_topic(connection, subscription.topic_path, subscription.topic, deadline=deadline)
                continue
            if code not in (grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.PERMISSION_DENIED):
                raise describe(error, url=connection.url, what=_what(subscription)) from error
            _check(connection, subscription, deadline=deadline)
        return


def delete_subscription(connection: Connection, subscription: Subscription, *, deadline: float) -> None:
    """Nothing happens when it is not there. Raises `BrokerUnavailable` and `BrokerRefused`."""
    method = connection.calls().subscriber.delete_subscription
    request = types.DeleteSubscriptionRequest(subscription=subscription.path)
    try:
        connection.start(method, request, resource=("subscription", subscription.path), deadline=deadline).result()
    except CALL_FAILED as error:
        if code_of(error) is not grpc.StatusCode.NOT_FOUND:
            raise describe(error, url=connection.url, what=_what(subscription)) from error


def _check(connection: Connection, subscription: Subscription, *, deadline: float) -> None:
    path = subscription.path
    method = connection.calls().subscriber.get_subscription
    request = types.GetSubscriptionRequest(subscription=path)
    try:
        found = connection.start(method, request, resource=("subscription", path), deadline=deadline).result()
    except CALL_FAILED as error:
        if code_of(error) is grpc.StatusCode.PERMISSION_DENIED:
            return
        raise describe(error, url=connection.url, what=_what(subscription)) from error
    problem = ""
    if found.topic != subscription.topic_path:
        problem = f"is one to {found.topic}"
    elif not found.enable_message_ordering:
        problem = "does not keep the order of messages"
    if problem:
        raise BrokerRefused(
            f"{connection.url}: topic {subscription.topic!r}: the subscription {path} {problem}",
            remedy=f"delete it, and it is made anew: gcloud pubsub subscriptions delete {path}",
        )


def _what(subscription: Subscription) -> str:
    return f"the subscription to topic {subscription.topic!r}"
