"""UUID version 7 (RFC 9562, section 5.7): identifiers that sort by the time they were made."""

from __future__ import annotations

import secrets
import uuid


def uuid7(time: int) -> str:
    """An identifier made at ``time``, µs since 1970, UTC: milliseconds, then 74 random bits."""
    number = (time // 1_000) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=number))
