"""The error hierarchy shared by every layer.

An error that reaches a person says what happened, where, and what to do: ``message`` carries the
first two, ``remedy`` the third. Command lines write both on stderr, as `IoTCloudError.told`.
"""

from __future__ import annotations


class IoTCloudError(Exception):
    """Base of all errors raised on purpose. ``remedy`` is one sentence for the person who must act."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message

    @property
    def told(self) -> str:
        """Lines for whoever has given a command: ``Error:`` and, if there is a remedy, ``Try:``."""
        return f"Error: {self.message}\n" + (f"Try: {self.remedy}\n" if self.remedy else "")


class ConfigurationError(IoTCloudError):
    """A setting is missing, unknown or of the wrong form."""


class SchemaError(IoTCloudError):
    """A schema breaks the header rule, or two schemas cannot be resolved."""


class FrameError(IoTCloudError):
    """Bytes that are not a frame: truncated, damaged, or of an unknown fingerprint."""
