"""What can go wrong with a broker. Every message names the broker, and the topic where there is one."""

from __future__ import annotations

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
    ``refused`` those of them that the broker will never take (too large, missing topic).
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


class OffsetExpired(BrokerError):
    """The offset asked for is no longer kept. ``begin`` is the first that is."""

    def __init__(self, message: str, *, begin: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.begin = begin
