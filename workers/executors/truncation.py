"""Truncation of what an agent wrote; the text that remains always says that a part is missing. Pure."""

from __future__ import annotations


def note(kept: str, length: int, unit: str = "characters") -> str:
    """Return the sentence that a truncated text contains.

    Args:
        kept: the part that remains, such as ``the beginning``.
        length: length of the whole.
        unit: of the length.
    """
    return f"[truncated: only {kept} of {length:,} {unit} is kept]"


def keep_beginning(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters; if its end is missing, its last line says so."""
    if len(text) <= limit:
        return text
    ending = f"\n{note('the beginning', len(text))}"
    return text[: limit - len(ending)] + ending


def keep_end(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters; if its beginning is missing, its first line says so."""
    if len(text) <= limit:
        return text
    opening = f"{note('the end', len(text))}\n"
    return opening + text[-(limit - len(opening)) :]
