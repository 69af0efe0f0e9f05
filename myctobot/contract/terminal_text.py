"""Removal of the control sequences of terminals from text that is shown elsewhere. Pure.

ECMA-48 and ISO 2022 define them: colours and cursor moves (CSI, also cut off at the end of a line), titles and links
(OSC), other strings (DCS, SOS, PM, APC), and short sequences such as the character set that "tput sgr0" chooses.
``text.js`` of the console has the same rules for the live log.
"""

from __future__ import annotations

import re
from typing import Final

# A string without its end keeps its text, so that no output can hide what follows.
SEQUENCES: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*(?:[@-~]|(?=[\r\n])|\Z)|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[!-/]*[0-~]"
)


def remove_sequences(text: str) -> str:
    """Return the text without control sequences; other control characters stay."""
    return SEQUENCES.sub("", text)
