"""Event schemas by fingerprint, fetched from the master when a frame needs one that is not here yet."""

from __future__ import annotations

import time
from typing import Final

from master.client.errors import MasterRefused
from master.client.http import Http
from master.views import Schema
from schemas.errors import FrameError
from schemas.registry import EventSchema, Schemas, event_schema

#: Seconds for which a fingerprint that the master does not know is not asked for again, and how many are remembered.
_ASK_AGAIN: Final = 5.0
_REMEMBERED: Final = 1_000


class Catalogue:
    """The schemas known so far, the shipped ones among them."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._unknown: dict[bytes, float] = {}
        self.schemas = Schemas.with_shipped()

    def fetch(self, fingerprint: str) -> EventSchema:
        """The schema with a hexadecimal fingerprint. Raises `MasterError`."""
        known = self.schemas.get(bytes.fromhex(fingerprint))
        if known is not None:
            return known
        served = self._http.get(f"/schemas/{fingerprint}", Schema)
        schema = event_schema(served.event, origin=f"schema {fingerprint} of {self._http.url}")
        self.schemas.add(schema)
        return schema

    def ensure(self, fingerprint: bytes) -> None:
        """Make `schemas` know a frame's fingerprint. Raises `FrameError` when the master does not, and `MasterUnavailable`."""
        if self.schemas.get(fingerprint) is not None:
            return
        now = time.monotonic()
        if now - self._unknown.get(fingerprint, -_ASK_AGAIN) >= _ASK_AGAIN:
            try:
                self.fetch(fingerprint.hex())
            except MasterRefused as error:
                if error.status != 404:
                    raise
                if len(self._unknown) >= _REMEMBERED:
                    self._unknown.clear()
                self._unknown[fingerprint] = now
            else:
                return
        raise FrameError(f"unknown schema fingerprint {fingerprint.hex()}", remedy="register the event schema it belongs to")
