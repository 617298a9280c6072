"""Code that docs/storage.md shows, by what stands behind the language of its block."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parent.parent.parent / "docs" / "storage.md"


def shown(language: str, what: str) -> list[str]:
    """All blocks that begin with ```LANGUAGE WHAT."""
    return re.findall(rf"^```{language} {what}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
