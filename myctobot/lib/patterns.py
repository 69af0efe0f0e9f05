"""Regular expressions that Python and JSON Schema read alike; without anchors."""

from __future__ import annotations

from typing import Final

# A text with a character that Python's ``strip`` keeps. The classes \s of Python and of JSON Schema differ from it.
NOT_BLANK_PATTERN: Final = (
    r"[^\u0000]*[^\u0000\u0009-\u000d\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
    r"[^\u0000]*"
)
