"""What can go wrong between a program and its master."""

from __future__ import annotations

from schemas.errors import IoTCloudError


class MasterError(IoTCloudError):
    """Base of the client's errors."""


class MasterUnavailable(MasterError):
    """The master cannot be reached, has too much to do, or did not answer in time. Trying again later may help."""


class MasterRefused(MasterError):
    """The master answered and refused. ``status`` is that of HTTP: 404 when there is no such thing."""

    def __init__(self, message: str, *, status: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class CommandFailed(MasterError):
    """The command ended otherwise than done. ``state`` is failed, expired, unknown or unsent."""

    def __init__(self, message: str, *, state: str, detail: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.state = state
        self.detail = detail


class CommandPending(MasterError):
    """The command had not ended when the time was up. It may still be carried out. ``state`` is the last step known."""

    def __init__(self, message: str, *, state: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.state = state
