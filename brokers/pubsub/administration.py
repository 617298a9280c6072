"""Making topics and subscriptions: all of a call at once, so that many take hardly longer than one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import grpc
from google.pubsub_v1 import types

from brokers.errors import BrokerRefused
from brokers.pubsub.connection import CALL_FAILED, Connection
from brokers.pubsub.failures import code_of, describe
from brokers.pubsub.names import Subscription, Topic
from brokers.pubsub.options import PubsubOptions


def create_topics(connection: Connection, topics: Iterable[Topic], *, deadline: float) -> None:
    """Nothing happens to those that are there. Raises `BrokerUnavailable` and `BrokerRefused`."""
    method = connection.calls().publisher.create_topic
    requests = [_Request(types.Topic(name=topic.path), ("name", topic.path), topic.name) for topic in topics]
    for request, _, error in _answers(connection, method, requests, deadline=deadline):
        if error is not None and code_of(error) is not grpc.StatusCode.ALREADY_EXISTS:
            raise describe(error, url=connection.url, what=f"making the topic {request.topic!r}") from error


def ensure_subscriptions(
    connection: Connection, subscriptions: Sequence[Subscription], options: PubsubOptions, *, deadline: float
) -> None:
    """See that they are there and keep the order of keys. They are made, with their topics, if the URL lets one.

    What the account may not look at is taken to be there: pulling from it will tell. Raises `BrokerUnavailable` and
    `BrokerRefused`.
    """
    found = list(subscriptions)
    if options.create:
        found, missing = _create(connection, subscriptions, options, deadline=deadline)
        if missing:
            create_topics(connection, [subscription.topic for subscription in missing], deadline=deadline)
            more, missing = _create(connection, missing, options, deadline=deadline)
            found += more + missing
    _check(connection, found, deadline=deadline)


def delete_subscriptions(connection: Connection, subscriptions: Iterable[Subscription], *, deadline: float) -> None:
    """Nothing happens where there is none. Raises `BrokerUnavailable` and `BrokerRefused`."""
    method = connection.calls().subscriber.delete_subscription
    requests = [
        _Request(types.DeleteSubscriptionRequest(subscription=path), ("subscription", path), topic.name)
        for topic, path in subscriptions
    ]
    for request, _, error in _answers(connection, method, requests, deadline=deadline):
        if error is not None and code_of(error) is not grpc.StatusCode.NOT_FOUND:
            raise describe(error, url=connection.url, what=f"the subscription to topic {request.topic!r}") from error


class _Request(NamedTuple):
    content: Any
    resource: tuple[str, str]
    topic: str


def _create(
    connection: Connection, subscriptions: Sequence[Subscription], options: PubsubOptions, *, deadline: float
) -> tuple[list[Subscription], list[Subscription]]:
    """Those that may have been there before, and those whose topic is missing."""
    requests = [
        _Request(
            types.Subscription(
                name=path,
                topic=topic.path,
                ack_deadline_seconds=round(options.ack_deadline),
                enable_message_ordering=True,
                enable_exactly_once_delivery=options.exactly_once,
                message_retention_duration=timedelta(seconds=round(options.retention)),
                # Without a time to live in it: it never expires, however long its readers stay away.
                expiration_policy=types.ExpirationPolicy(),
            ),
            ("name", path),
            topic.name,
        )
        for topic, path in subscriptions
    ]
    method = connection.calls().subscriber.create_subscription
    found: list[Subscription] = []
    missing: list[Subscription] = []
    answers = _answers(connection, method, requests, deadline=deadline)
    for subscription, (request, _, error) in zip(subscriptions, answers, strict=True):
        if error is None:
            continue
        code = code_of(error)
        if code is grpc.StatusCode.NOT_FOUND:
            missing.append(subscription)
        elif code in (grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.PERMISSION_DENIED):
            found.append(subscription)
        else:
            raise describe(error, url=connection.url, what=f"the subscription to topic {request.topic!r}") from error
    return found, missing


def _check(connection: Connection, subscriptions: Sequence[Subscription], *, deadline: float) -> None:
    method = connection.calls().subscriber.get_subscription
    requests = [
        _Request(types.GetSubscriptionRequest(subscription=path), ("subscription", path), topic.name)
        for topic, path in subscriptions
    ]
    answers = _answers(connection, method, requests, deadline=deadline)
    for (topic, path), (_, found, error) in zip(subscriptions, answers, strict=True):
        if error is not None:
            if code_of(error) is grpc.StatusCode.PERMISSION_DENIED:
                continue
            raise describe(error, url=connection.url, what=f"the subscription to topic {topic.name!r}") from error
        problem = ""
        if found.topic != topic.path:
            problem = f"is one to {found.topic}"
        elif not found.enable_message_ordering:
            problem = "does not keep the order of messages"
        if problem:
            raise BrokerRefused(
                f"{connection.url}: topic {topic.name!r}: the subscription {path} {problem}",
                remedy=f"delete it, and it is made anew: gcloud pubsub subscriptions delete {path}",
            )


def _answers(
    connection: Connection, method: Any, requests: Sequence[_Request], *, deadline: float
) -> list[tuple[_Request, Any, BaseException | None]]:
    """Every request with its answer, or with what it failed with. All are on their way at once."""
    calls = [connection.start(method, request.content, resource=request.resource, deadline=deadline) for request in requests]
    answers: list[tuple[_Request, Any, BaseException | None]] = []
    for request, call in zip(requests, calls, strict=True):
        try:
            answers.append((request, call.result(), None))
        except CALL_FAILED as error:
            answers.append((request, None, error))
    return answers
