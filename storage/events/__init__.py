"""Events by event time, made out of the journal: what `compact` writes and everything else reads. See README.md."""

from __future__ import annotations

from typing import Final

#: No store of its own: it lies beside a journal, in the same place.
SCHEMES: Final[tuple[str, ...]] = ()
