"""What can go wrong with a broker. Every message names the broker, and the topic where there is one."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.errors import IoTCloudError


class BrokerError(IoTCloudError):
    """Base of all errors of brokers."""


class BrokerUnavailable(BrokerError):
    """The server cannot be reached, or did not answer before the deadline. Trying again later may help."""


class BrokerRefused(BrokerError):
    """The server answered and refused: credentials, a missing topic, no right. Trying again does not help."""


class PublishError(BrokerError):
    """Some messages are not known to have been taken over by the broker.

    ``unacknowledged`` holds their positions in the list that was given to `publish`;
    ``refused`` those of them that the broker will never take (too large, no name for a topic). They are thrown away, so
    what somebody can mend at the server, a right or a missing topic, is not among them.
    """

    def __init__(
        self,
        message: str,
        *,
        unacknowledged: tuple[int, ...],
        refused: tuple[int, ...] = (),
        remedy: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.unacknowledged = unacknowledged
        self.refused = refused


def not_stored(
    count: int,
    failures: Mapping[int, IoTCloudError],
    refused: Mapping[int, IoTCloudError],
) -> PublishError:
    """The error of a call of `publish` with ``count`` messages: why some may be published again, and why some never will be.

    Both by position, and one of them not empty. The first refusal is told, as its message is given up, or else the first failure.
    """
    first = next(iter((refused or failures).values()))
    unacknowledged = tuple(sorted({*failures, *refused}))
    return PublishError(
        f"{len(unacknowledged)} of {count} messages not known to be stored: {first.message}",
        unacknowledged=unacknowledged,
        refused=tuple(sorted(refused)),
        remedy=first.remedy,
    )


class OffsetExpired(BrokerError):
    """The offset asked for is no longer kept. ``begin`` is the first that is."""

    def __init__(self, message: str, *, begin: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.begin = begin
