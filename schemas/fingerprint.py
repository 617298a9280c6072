"""CRC-64-AVRO fingerprints of Parsing Canonical Forms (Avro 1.12 specification, "Schema fingerprints")."""

from __future__ import annotations

from typing import Any, Final

import fastavro.schema

#: First two bytes of the single-object encoding (Avro 1.12 specification, "Single-object encoding").
MAGIC: Final = b"\xc3\x01"
FINGERPRINT_BYTES: Final = 8
PREFIX_BYTES: Final = len(MAGIC) + FINGERPRINT_BYTES


def fingerprint(schema: Any) -> bytes:
    """Return the 8 bytes, little-endian as they stand on the wire, that name ``schema``."""
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    return bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
