"""What can go wrong with a store. Every message names the store, and the table or topic where there is one."""

from __future__ import annotations

from schemas.errors import IoTCloudError


class StoreError(IoTCloudError):
    """Base of all errors of stores."""


class StoreUnavailable(StoreError):
    """The store cannot be reached, is locked, or did not answer. Trying again later may help."""


class StoreFull(StoreUnavailable):
    """There is no room to write to. Nothing of the write is in the store; trying again helps once there is room."""


class StoreRefused(StoreError):
    """The store answered and refused: credentials, a table of another form, damage. Trying again does not help."""


class Overtaken(StoreError):
    """Another writer has appended at this offset. ``next_offset`` is where the journal goes on."""

    def __init__(self, message: str, *, next_offset: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.next_offset = next_offset
