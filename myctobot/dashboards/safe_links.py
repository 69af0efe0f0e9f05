"""Text as it is shown. What agents and tickets say is hostile: nothing in it may act on its reader.

Pure, and the same as ``clean`` of ``text.js``, which does it for the live log.
"""

from __future__ import annotations

import re
from typing import Final

# Terminals' colours and cursor moves (ECMA-48, CSI), and what sets titles and links (OSC).
_TERMINAL: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_LINE_END: Final = re.compile(r"\r\n?")
_REPLACEMENT: Final = "\ufffd"
# The pictures of control characters begin at U+2400; those of the second block have none. What makes text read in
# another order than it has is marked too: source code shown with it is not what a compiler sees.
_VISIBLE: Final = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: "\u2421",
    **dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), _REPLACEMENT),
}


def harmless(text: object) -> str:
    """Return what came as text without anything that acts: controls and reordering become visible marks."""
    plain = "" if text is None else str(text)
    return _LINE_END.sub("\n", _TERMINAL.sub("", plain)).translate(_VISIBLE)
