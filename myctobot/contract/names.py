"""Rule for the names of shards, pools and capabilities."""

from __future__ import annotations

import re

SLUG_PATTERN = r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?"
_SLUG = re.compile(SLUG_PATTERN)


def is_slug(value: str) -> bool:
    """Tell whether ``value`` is a slug: lower-case letters, digits and inner dashes, at most 40 characters."""
    return _SLUG.fullmatch(value) is not None
