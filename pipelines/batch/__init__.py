"""Jobs on what is stored: they read bounded input, and end. One file a job; each may be killed and run again."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

#: Modules by the name of their job; each has ``main(arguments)``, which returns the exit status.
JOBS: Final = MappingProxyType({name: f"pipelines.batch.{name}" for name in ("compact", "verify", "retention")})
