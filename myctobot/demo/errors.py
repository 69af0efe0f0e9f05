"""Error of the demo."""

from __future__ import annotations


class DemoFailed(Exception):
    """Demo cannot continue; the message says why, for a new user."""
