"""Sanitizer for displayed text, because text of agents and tickets may attack its reader. Pure.

It has the same rules as ``clean`` of ``text.js``, which sanitizes the live log.
"""

from __future__ import annotations

import re
from typing import Final

from myctobot.contract.terminal_text import remove_sequences

_LINE_END: Final = re.compile(r"\r\n?")
_REPLACEMENT: Final = "\ufffd"
# The symbols for C0 control characters begin at U+2400. C1 control characters have no symbols.
_SYMBOLS_START: Final = 0x2400
# Bidirectional controls are replaced too: they would show source code in another order than a compiler reads it.
_VISIBLE: Final = {
    **{code: chr(_SYMBOLS_START + code) for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: "\u2421",
    **dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), _REPLACEMENT),
}


def sanitize(text: object) -> str:
    """Return the value as text; control and reordering characters become visible marks."""
    plain = "" if text is None else str(text)
    return _LINE_END.sub("\n", remove_sequences(plain)).translate(_VISIBLE)
