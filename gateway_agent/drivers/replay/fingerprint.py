"""Telling one file from another that has its name."""

from __future__ import annotations

import hashlib
import os
from typing import Final

#: Bytes at the beginning of a file that tell it from another.
SAMPLE: Final = 4_096

#: The size of the sample, and a hash. JSON, for a driver's state.
Fingerprint = list[int | str]


def fingerprint(file: int, about: str = "", *, sample: int = SAMPLE) -> Fingerprint:
    """Of an open file, and of what is said ``about`` it; a file that has only grown has the same for the same ``sample``."""
    data = os.pread(file, sample, 0)
    return [len(data), hashlib.sha256(data + about.encode()).hexdigest()[:32]]
