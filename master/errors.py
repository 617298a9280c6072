"""What the master refuses, and with which status."""

from __future__ import annotations

from schemas.errors import IoTCloudError


class NotFound(IoTCloudError):
    """There is no such thing."""


class Ambiguous(IoTCloudError):
    """Several things have that name."""


class Conflict(IoTCloudError):
    """It contradicts what is there."""


class Invalid(IoTCloudError):
    """The request has the right form but cannot be carried out."""


class Busy(IoTCloudError):
    """Too much is waiting, or nobody answered in time. Trying again later helps."""


class Refused(IoTCloudError):
    """A registration that will be refused again until it is changed."""


class StaleEpoch(IoTCloudError):
    """The gateway has registered with a newer epoch. ``current`` is that one."""

    def __init__(self, message: str, *, current: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.current = current


class NotRegistered(IoTCloudError):
    """The connection has not registered the gateway it speaks for."""
