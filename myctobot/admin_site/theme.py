"""Appearance of unfold's pages under our Content-Security-Policy."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest


def without_inline_style(request: HttpRequest) -> dict[str, Any]:
    """Return the context without colours, which unfold would write into a style element; ``theme.css`` has them."""
    return {"colors": {}}
