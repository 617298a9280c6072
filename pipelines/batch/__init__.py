"""Jobs on what is stored: they read bounded input, and end. One file a job; each may be killed and run again."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

_NAMES: Final = ("compact", "verify", "reprocess", "export", "retention")
#: Modules by the name of their job; each has ``main(arguments)``, which returns the exit status.
JOBS: Final = MappingProxyType({name: f"{__name__}.{name}" for name in _NAMES})
